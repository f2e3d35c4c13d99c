"""Records that wait on disk while Kafka is away: `producers/spool.py`, from an event loop.

Upstream: `delivery.py`. Downstream: the spool, in a thread of its own.

Invariants: `append` says True after the fsync, never before; requests that come while one fsync is
under way share the next. Several processes share the folder; what a dead one left is adopted.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from streamgauge.producers.errors import SpoolFull
from streamgauge.producers.spool import Spool
from streamgauge.schemas.topics import DEAD_LETTERS, EVENTS
from streamgauge.serving.collector.intake import Record

logger = logging.getLogger(__name__)

T = TypeVar("T")

TOPICS = (EVENTS.name, DEAD_LETTERS.name)
FRAME = struct.Struct("<BI")
"""Which of the topics, and the length of the key that follows; the rest is the value."""

HEAD_RECORDS = 2000
HEAD_BYTES = 4 << 20


class SpoolBuffer:
    """A `delivery.Buffer` on a spool."""

    def __init__(self, directory: Path, max_bytes: int) -> None:
        self._spool = Spool(directory, max_bytes=max_bytes)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._waiting: list[tuple[list[bytes], asyncio.Future[bool]]] = []
        self._writer: asyncio.Task[None] | None = None
        if found := self._spool.adopt():
            logger.info("%d records of an earlier process are in the spool", found)
        self.records = self._spool.pending
        self.has_room = True

    async def append(self, records: Sequence[Record]) -> bool:
        kept: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append(([_pack(record) for record in records], kept))
        if self._writer is None:
            self._writer = asyncio.create_task(self._write())
        return await kept

    async def head(self) -> Sequence[Record]:
        return [_unpack(payload) for payload in await self._run(self._read)]

    async def advance(self) -> None:
        await self._run(self._done)
        self.has_room = True

    def close(self) -> None:
        self._thread.submit(self._spool.close).result()
        self._thread.shutdown()

    async def _write(self) -> None:
        """Write what waits, all of it in one go, until nothing does."""
        try:
            while self._waiting:
                group, self._waiting = self._waiting, []
                good = await self._run(self._keep, [payloads for payloads, _ in group])
                for (_, kept), one in zip(group, good, strict=True):
                    kept.set_result(one)
        finally:
            self._writer = None

    async def _run(self, call: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *arguments)

    def _keep(self, groups: Sequence[list[bytes]]) -> list[bool]:
        """Which of the requests' records are on disk."""
        if self._appended([payload for group in groups for payload in group]):
            return [True] * len(groups)
        return [self._appended(group) for group in groups] if len(groups) > 1 else [False]

    def _appended(self, payloads: list[bytes]) -> bool:
        try:
            self._spool.append(payloads)
        except (SpoolFull, OSError) as error:
            if self.has_room:
                logger.error("nothing more can be spooled: %s", error)
            self.has_room = False
            return False
        self.records = self._spool.pending
        return True

    def _read(self) -> list[bytes]:
        found = self._spool.read(HEAD_RECORDS, HEAD_BYTES)
        if not found and self._spool.adopt():  # of a process that ended meanwhile
            found = self._spool.read(HEAD_RECORDS, HEAD_BYTES)
        return found

    def _done(self) -> None:
        self._spool.done()
        self.records = self._spool.pending


def _pack(record: Record) -> bytes:
    return FRAME.pack(TOPICS.index(record.topic), len(record.key)) + record.key + record.value


def _unpack(payload: bytes) -> Record:
    topic, length = FRAME.unpack_from(payload)
    end = FRAME.size + length
    return Record(TOPICS[topic], payload[FRAME.size : end], payload[end:])
