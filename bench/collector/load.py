"""Clients of the collector: connections that send prepared requests and time the answers.

Upstream: benchmarks.py, which runs this as a process (`python -m bench.collector.load`) with a plan
as JSON and reads the outcome as JSON. The requests are made beforehand but for the events' ids, so
that a client costs far less than what it measures.

Closed: each connection sends its next request once the one before is answered. At a rate: requests
are due by the clock, whoever is late; latency counts from the time a request was due.
"""

import asyncio
import contextlib
import json
import resource
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field

import uvloop

HOLE = b"########"
FIELDS = {
    "page_view": {
        "page_url": "https://shop.example/products/summer/shoes?page=2",
        "title": "Shoes",
    },
    "button_click": {"element_id": "add-to-cart", "page_url": "https://shop.example/products/17"},
    "search": {"query": "running shoes", "results_count": 48},
    "playback": {"item_id": "item-123", "action": "progress", "position_ms": 73000.5},
}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to send."""

    host: str
    port: int
    connections: int
    batch: int
    """Events a request; 1 sends them to /v1/events."""
    seconds: float
    rate: float = 0
    """Events a second; 0 is as fast as they are answered."""
    prefix: str = "b"
    """Of the ids."""
    pause: float = 0
    """Seconds that a connection waits between its requests, where there is no rate."""


@dataclass(kw_only=True)
class Outcome:
    """What was answered."""

    requests: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    ok: int = 0
    """Events that were answered ok."""
    seconds: float = 0
    latencies_ms: list[float] = field(default_factory=list)
    """Of requests answered 200."""
    lost: int = 0
    """Requests whose connection broke."""
    connected: int = 0
    cpu_s: float = 0
    """What the clients themselves took."""


def request(plan: Plan) -> bytes:
    """A request with holes for the ids."""
    events = []
    now = time.time_ns() // 1_000_000
    for number in range(plan.batch):
        kind = list(FIELDS)[number % len(FIELDS)]
        events.append(
            {
                "event_id": f"{plan.prefix}-{HOLE.decode()}-{number}",
                "event_type": kind,
                "user_id": f"user-{number * 37 % 1000}",
                "session_id": f"session-{number % 50}",
                "timestamp": now,
                "device_type": "mobile",
                "country": "NL",
                "app_version": "3.2.1",
                "consent_analytics": True,
            }
            | FIELDS[kind]
        )
    body = json.dumps(events[0] if plan.batch == 1 else {"batch": events}).encode()
    path = "events" if plan.batch == 1 else "batch"
    head = (
        f"POST /v1/{path} HTTP/1.1\r\nHost: {plan.host}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Connection(asyncio.Protocol):
    """One connection: a request at a time."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[tuple[int, int]] | None = None
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(ConnectionResetError())

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, body = self._data.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0)
        if len(body) < length or self._answer is None:
            return
        self._data = b""
        if not self._answer.done():
            self._answer.set_result((int(head[9:12]), body.count(b'"ok"')))

    async def send(self, data: bytes) -> tuple[int, int]:
        """The status and how many events were answered ok."""
        self._answer = asyncio.get_running_loop().create_future()
        if self.transport.is_closing():
            raise ConnectionResetError
        self.transport.write(data)  # type: ignore[attr-defined]
        return await self._answer


class Load:
    """A plan at work."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._template = request(plan)
        self._next = 0
        self._statuses: Counter[str] = Counter()
        self.outcome = Outcome()

    async def run(self) -> Outcome:
        plan, loop = self._plan, asyncio.get_running_loop()
        connections: list[Connection] = []
        for at in range(0, plan.connections, 500):
            opened = await asyncio.gather(
                *(
                    loop.create_connection(Connection, plan.host, plan.port)
                    for _ in range(min(500, plan.connections - at))
                )
            )
            connections += [connection for _, connection in opened]
        self.outcome.connected = len(connections)
        began = time.monotonic()
        end = began + plan.seconds
        work = self._paced(connections, end) if plan.rate else self._closed(connections, end)
        await work
        self.outcome.seconds = time.monotonic() - began
        self.outcome.statuses = dict(self._statuses)
        self.outcome.cpu_s = time.process_time()
        return self.outcome

    async def _closed(self, connections: list[Connection], end: float) -> None:
        async def one(connection: Connection, delay: float) -> None:
            await asyncio.sleep(delay)
            while time.monotonic() < end:
                await self._send(connection, time.monotonic())
                if self._plan.pause:
                    await asyncio.sleep(self._plan.pause)

        spread = self._plan.pause / len(connections)
        await asyncio.gather(*(one(each, at * spread) for at, each in enumerate(connections)))

    async def _paced(self, connections: list[Connection], end: float) -> None:
        free = asyncio.Queue[Connection]()
        for connection in connections:
            free.put_nowait(connection)

        async def one(due: float) -> None:
            connection = await free.get()
            await self._send(connection, due)
            free.put_nowait(connection)

        step = self._plan.batch / self._plan.rate
        tasks: set[asyncio.Task[None]] = set()
        due = time.monotonic()
        while due < end:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            task = asyncio.create_task(one(due))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            due += step
        await asyncio.gather(*tasks)

    async def _send(self, connection: Connection, since: float) -> None:
        number = self._next
        self._next += 1
        data = self._template.replace(HOLE, b"%08d" % number)
        self.outcome.requests += 1
        try:
            status, ok = await asyncio.wait_for(connection.send(data), 60)
        except (ConnectionError, TimeoutError):
            self.outcome.lost += 1
            with contextlib.suppress(OSError):
                _, fresh = await asyncio.get_running_loop().create_connection(
                    Connection, self._plan.host, self._plan.port
                )
                connection.__dict__.update(fresh.__dict__)
                connection.transport.set_protocol(connection)  # type: ignore[attr-defined]
            return
        self._statuses[str(status)] += 1
        self.outcome.ok += ok
        if status == 200:
            self.outcome.latencies_ms.append((time.monotonic() - since) * 1000)


def main() -> None:
    """Read a plan, write the outcome."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    plan = Plan(**json.loads(sys.argv[1]))
    print(json.dumps(asdict(uvloop.run(Load(plan).run()))))


if __name__ == "__main__":
    main()
