"""A TCP proxy in front of one server, to make its network slow, cut or deaf; for fault tests.

    client ──> Proxy ──> server          LocalKafka(dir, advertised=proxy.address)

Upstream: `chaos` and the fault tests. Downstream: one server on this machine. `KafkaProxy` knows
of Kafka's wire as much as it takes to tell which request a response answers: size, api key and
correlation id, 12 bytes a frame. Invariants: bytes keep their order; what is cut arrives late and
whole, as TCP sends it again, or the connection ends; no byte is changed.
"""

import asyncio
import socket
import struct
import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import IntEnum
from typing import Self

from streamgauge.cli.stack import process

CHUNK = 1 << 20
_REQUEST = struct.Struct(">ihhi")  # size, api key, api version, correlation id
_RESPONSE = struct.Struct(">ii")  # size, correlation id


class ApiKey(IntEnum):
    """Kafka's requests that faults are aimed at."""

    PRODUCE = 0
    FETCH = 1
    OFFSET_FETCH = 9
    HEARTBEAT = 12
    INIT_PRODUCER_ID = 22
    ADD_PARTITIONS_TO_TXN = 24
    ADD_OFFSETS_TO_TXN = 25
    END_TXN = 26
    TXN_OFFSET_COMMIT = 28


@dataclass(frozen=True)
class Delay:
    """The response, and what comes after it on its connection, is held for so long."""

    seconds: float


@dataclass(frozen=True)
class Drop:
    """The response is swallowed; `close` ends its connection too."""

    close: bool = False


@dataclass
class Rule:
    """What is done with responses to `api_keys`; `fired` counts them, `times` bounds it."""

    api_keys: frozenset[int]
    action: Delay | Drop
    times: int | None = None
    fired: int = 0

    def takes(self, api_key: int | None) -> bool:
        return api_key in self.api_keys and (self.times is None or self.fired < self.times)


class Proxy:
    """Forwards connections on `port` (a free one) to a server; runs in a thread of its own.

    All methods may be called from any thread, and have taken effect when they return.
    """

    def __init__(self, target_host: str, target_port: int, port: int | None = None) -> None:
        self.port = port or process.free_port()
        self.address = f"127.0.0.1:{self.port}"
        self._target = (target_host, target_port)
        self._latency = 0.0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._whole = asyncio.Event()  # not cut
        self._whole.set()
        self._listening: socket.socket | None = None
        self._links: dict[asyncio.Task[None], _Link] = {}

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Listen."""
        self._thread.start()
        self._do(self._listen)

    def stop(self) -> None:
        """End every connection and stop listening."""
        if self._thread.is_alive():
            self.refuse()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()

    def delay(self, seconds: float) -> None:
        """Hold every piece for so long, in both directions; 0 ends it."""
        self._latency = seconds

    def cut(self) -> None:
        """A partition: nothing passes in either direction, not even the end of a connection.

        New connections are accepted and hear nothing.
        """
        self._do(self._whole.clear)

    def restore(self, *, lost: bool = False) -> None:
        """End a cut or a refusal. What was held arrives now; `lost`, its connections end."""
        if lost:
            self.sever()
        self._do(self._listen)
        self._do(self._whole.set)

    def sever(self) -> None:
        """End all connections at once, by a reset."""
        self._do(self._sever)

    def refuse(self) -> None:
        """End all connections, and refuse new ones."""
        self._do(self._close)
        self.sever()

    def clear(self) -> None:
        """No fault any more."""
        self.delay(0.0)
        self.restore()

    def link(self, client: socket.socket) -> "_Link":
        """What forwards one client's connection."""
        return _Link(self, client)

    async def pause(self) -> None:
        """The network's time for one piece; as long as a cut lasts."""
        if self._latency:
            await asyncio.sleep(self._latency)
        await self._whole.wait()

    def _do(self, call: Callable[[], object]) -> None:
        """Run in the loop's thread, and wait for it and for the tasks that it ends."""

        async def run() -> None:
            call()
            ending = {task for task in asyncio.all_tasks() if task.cancelling()}
            if ending:
                await asyncio.wait(ending)

        asyncio.run_coroutine_threadsafe(run(), self._loop).result()

    def _listen(self) -> None:
        if self._listening is None:
            self._listening = socket.create_server(("127.0.0.1", self.port), backlog=256)
            self._listening.setblocking(False)
            self._loop.add_reader(self._listening, self._accept, self._listening)

    def _close(self) -> None:
        if self._listening is not None:
            self._loop.remove_reader(self._listening)
            self._listening.close()
            self._listening = None

    def _sever(self) -> None:
        for task, link in self._links.items():
            link.reset()
            task.cancel()

    def _accept(self, listening: socket.socket) -> None:
        try:
            client, _ = listening.accept()
        except OSError:  # it has gone again
            return
        link = self.link(client)
        task = self._loop.create_task(link.run(self._target))
        self._links[task] = link
        task.add_done_callback(self._links.pop)


class _Link:
    """One client's connection, and ours to the server for it."""

    def __init__(self, proxy: Proxy, client: socket.socket) -> None:
        self.proxy = proxy
        self.loop = asyncio.get_running_loop()
        self.client = _prepared(client)
        self.server = _prepared(socket.socket())

    def reset(self) -> None:
        """Both ends shall see a reset rather than an orderly end."""
        for end in (self.client, self.server):
            with suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def run(self, target: tuple[str, int]) -> None:
        """Forward until both directions have ended."""
        with self.client, self.server, suppress(OSError):
            await self.proxy.pause()
            await self.loop.sock_connect(self.server, target)
            both = [asyncio.ensure_future(it) for it in (self.requests(), self.responses())]
            try:
                await asyncio.gather(*both)
            except OSError:  # a reset of one side is one of the other
                self.reset()
            finally:
                for direction in both:
                    direction.cancel()
                await asyncio.wait(both)  # sockets close once nobody waits for them

    async def requests(self) -> None:
        await self.forward(self.client, self.server)

    async def responses(self) -> None:
        await self.forward(self.server, self.client)

    async def forward(self, source: socket.socket, sink: socket.socket) -> None:
        """Bytes as they come, then the end."""
        while piece := await self.loop.sock_recv(source, CHUNK):
            await self.proxy.pause()
            await self.loop.sock_sendall(sink, piece)
        await self.end(sink)

    async def end(self, sink: socket.socket) -> None:
        """Tell the other side that nothing more comes."""
        await self.proxy.pause()
        sink.shutdown(socket.SHUT_WR)


class KafkaProxy(Proxy):
    """A proxy that can delay or drop responses of chosen kinds.

    proxy.on_response({ApiKey.END_TXN}, Drop(close=True), times=1)
    """

    def __init__(self, target_host: str, target_port: int, port: int | None = None) -> None:
        super().__init__(target_host, target_port, port)
        self.rules: list[Rule] = []

    def on_response(
        self, api_keys: Collection[int], action: Delay | Drop, times: int | None = None
    ) -> Rule:
        """From now on, do this with responses to these requests, at most `times` times."""
        rule = Rule(frozenset(api_keys), action, times)
        self._do(lambda: self.rules.append(rule))
        return rule

    def clear(self) -> None:
        """No fault any more."""
        self._do(self.rules.clear)
        super().clear()

    def link(self, client: socket.socket) -> _Link:
        return _KafkaLink(self, client, self.rules)


class _KafkaLink(_Link):
    """Keeps count of frames in both directions; responses that a rule takes are single pieces."""

    def __init__(self, proxy: Proxy, client: socket.socket, rules: list[Rule]) -> None:
        super().__init__(proxy, client)
        self._rules = rules
        self._asked: dict[int, int] = {}  # correlation id → api key

    async def requests(self) -> None:
        frames = Frames(_REQUEST)
        while piece := await self.loop.sock_recv(self.client, CHUNK):
            for head, _ in frames.split(piece):
                if head is not None:
                    _, api_key, _, correlation = head
                    self._asked[correlation] = api_key
            await self.proxy.pause()
            await self.loop.sock_sendall(self.server, piece)
        await self.end(self.server)

    async def responses(self) -> None:
        frames, rule = Frames(_RESPONSE), None
        while piece := await self.loop.sock_recv(self.server, CHUNK):
            await self.proxy.pause()
            ready = bytearray()
            for head, part in frames.split(piece):
                if head is not None:
                    rule = self._rule(self._asked.pop(head[1], None))
                    if rule is not None:
                        await self.loop.sock_sendall(self.client, ready)
                        ready.clear()
                        if isinstance(rule.action, Delay):
                            await asyncio.sleep(rule.action.seconds)
                        elif rule.action.close:
                            raise ConnectionResetError
                if rule is None or isinstance(rule.action, Delay):
                    ready += part
            await self.loop.sock_sendall(self.client, ready)
        await self.end(self.client)

    def _rule(self, api_key: int | None) -> Rule | None:
        for rule in self._rules:
            if rule.takes(api_key):
                rule.fired += 1
                return rule
        return None


class Frames:
    """Finds where Kafka's frames begin in a stream of pieces, whatever their cuts."""

    def __init__(self, head: struct.Struct) -> None:
        self._form = head
        self._head = b""  # of a frame whose head is not whole yet
        self._left = 0  # bytes of the current frame that have not come yet

    def split(self, piece: bytes) -> Iterator[tuple[tuple[int, ...] | None, bytes | memoryview]]:
        """Its parts: a head with what it says, or (None) a body; an unfinished head is kept."""
        view, at = memoryview(piece), 0
        while at < len(view):
            if self._left:
                part = view[at : at + self._left]
                self._left -= len(part)
                at += len(part)
                yield None, part
                continue
            more = view[at : at + self._form.size - len(self._head)]
            self._head += more
            at += len(more)
            if len(self._head) == self._form.size:
                head, self._head = self._head, b""
                said = self._form.unpack(head)
                self._left = said[0] + 4 - self._form.size
                yield said, head


def _prepared(end: socket.socket) -> socket.socket:
    end.setblocking(False)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return end
