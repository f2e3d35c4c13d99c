"""The reader: librdkafka's consumer in a lane of its own, and where it stands.

Upstream: Kafka's group protocol (classic, range assignor). Downstream: `consumer.py`, which gets
records; `membership.py`, which gets the group's callbacks. They run inside `consume()`, so it must
be called from subscription on; a revocation is answered there, in the lane, with the loop at work.

Invariants: nothing is read before `read_from`; `positions` is the next offset to read of every
partition owned, past the transaction markers, which are no records; it moves only once all that
lies before it is handed over, for a commit may come from inside `consume()`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from faust.types import TP

from streamgauge.schemas.messages import Messages
from streamgauge.streams.engine import telemetry
from streamgauge.streams.engine.lane import Lane
from streamgauge.streams.engine.task import Record

logger = logging.getLogger(__name__)

REVOKE_DEADLINE = 60.0  # below max.poll.interval.ms
MOST_AT_ONCE = 20_000
CHUNK = 1_000  # messages that are still in the processor's cache when their columns are taken


@dataclass
class Found:
    """What one reading gave, in the log's order by partition."""

    columns: dict[str, list[Messages]] = field(default_factory=dict)
    """By topic, of columnar ones."""
    records: list[Record] = field(default_factory=list)
    """Of the others, whose agents take one record at a time."""
    count: int = 0
    drained: bool = False
    """Whether there was no more to read just then."""


class Callbacks(Protocol):
    """What the group tells."""

    def assigned(self, owned: set[TP], generation: int) -> Coroutine[Any, Any, None]: ...

    def released(self, *, lost: bool) -> Coroutine[Any, Any, None]: ...


class Reader:
    """Reads the partitions that the group has assigned."""

    def __init__(self, kafka: Mapping[str, Any], group: str, columnar: Set[str]) -> None:
        """`columnar` are the topics that are read as columns; it may grow until `subscribe`."""
        self.lane = Lane("poll")
        self._columnar = columnar
        self.positions: dict[TP, int] = {}
        self.at_end: set[TP] = set()
        self.group: Any = None  # member and generation, which fence a zombie (KIP-447)
        self.generation = 0  # counts assignments and releases
        self._callbacks: Callbacks
        self._loop: asyncio.AbstractEventLoop
        self.kafka = Consumer(
            {
                # librdkafka's default backs off a fast reader for a second
                "fetch.queue.backoff.ms": 5,
                # a fetch each 20 ms, not for each record: commits are further apart
                "fetch.min.bytes": 1 << 18,
                "fetch.wait.max.ms": 20,
                "queued.min.messages": 20_000,
                "queued.max.messages.kbytes": 16384,
                "fetch.message.max.bytes": 1 << 21,
                "topic.metadata.refresh.interval.ms": 10_000,
                "session.timeout.ms": 6000,
                "heartbeat.interval.ms": 1500,
                **kafka,
                "group.id": group,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                "partition.assignment.strategy": "range",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
            }
        )

    async def subscribe(self, topics: Iterable[str], callbacks: Callbacks) -> None:
        """Join the group."""
        self._callbacks, self._loop = callbacks, asyncio.get_running_loop()
        await self.lane.run(
            lambda: self.kafka.subscribe(
                sorted(topics),
                on_assign=self._on_assign,
                on_revoke=lambda kafka, _: self._on_release(kafka, lost=False),
                on_lost=lambda kafka, _: self._on_release(kafka, lost=True),
            )
        )

    async def read(self, room: int, wait: float) -> Found:
        """Up to `room` records, after at most `wait` seconds; none from before a rebalance."""
        generation = self.generation
        found = await self.lane.run(self._consume, room, wait)
        return found if generation == self.generation else Found()

    async def read_from(self, offsets: Mapping[TP, int], generation: int) -> bool:
        """Start reading at `offsets`, unless the group has moved on."""
        return await self.lane.run(self._assign_at, dict(offsets), generation)

    async def note_lag(self, unqualified: Any) -> None:
        """Set the lag gauges from what the last fetches said."""

        def note() -> None:
            for tp, position in list(self.positions.items()):
                asked = TopicPartition(tp.topic, tp.partition)
                _, high = self.kafka.get_watermark_offsets(asked, cached=True)
                lag = max(0, high - position)
                telemetry.LAG.labels(unqualified(tp.topic), tp.partition).set(lag)

        await self.lane.run(note)

    async def leave(self) -> None:
        """Give the partitions back (the callback runs), leave the group for good, close."""
        await self.lane.run(self._leave, timeout=REVOKE_DEADLINE)
        self.lane.close()

    # -- in the lane -------------------------------------------------------------------------

    def _consume(self, room: int, wait: float) -> Found:
        generation, found = self.generation, Found()
        positions: dict[TP, int] = {}
        ended: dict[TP, int] = {}
        room = min(room, MOST_AT_ONCE)
        while room > 0:
            asked = min(room, CHUNK)
            chunk = cast(list[Record], self.kafka.consume(asked, wait))
            if generation != self.generation:
                return Found()
            if any(map(Message.error, chunk)):  # type: ignore[arg-type]
                chunk = self._sort_out(chunk, ended)
            self._gather(chunk, found, positions)
            if len(chunk) < asked:
                found.drained = True
                break
            room, wait = room - asked, 0.0
        for tp, position in positions.items():
            if tp in self.positions:
                self.positions[tp] = position
                self.at_end.discard(tp)
        for tp, offset in ended.items():
            if tp in self.positions and offset >= positions.get(tp, 0):  # past the markers
                self.positions[tp] = offset
                self.at_end.add(tp)
        return found

    def _sort_out(self, chunk: list[Record], ended: dict[TP, int]) -> list[Record]:
        """Only the records; the ends of partitions are noted."""
        records = []
        for record in chunk:
            error = record.error()
            if error is None:
                records.append(record)
            elif error.code() == KafkaError._PARTITION_EOF:
                ended[TP(record.topic(), record.partition())] = record.offset()
            elif error.fatal():
                raise KafkaException(error)
            else:
                logger.warning("consume: %s", error.str())
        return records

    def _gather(self, chunk: list[Record], found: Found, positions: dict[TP, int]) -> None:
        found.count += len(chunk)
        topics: set[str] = set(map(Message.topic, chunk))  # type: ignore[arg-type]
        for topic in topics:
            some = chunk if len(topics) == 1 else [r for r in chunk if r.topic() == topic]
            if topic not in self._columnar:
                found.records += some
                positions |= {TP(topic, r.partition()): r.offset() + 1 for r in some}
                continue
            columns = Messages.of(some, topic)
            found.columns.setdefault(topic, []).append(columns)
            turns = columns.partitions[1:] != columns.partitions[:-1]
            lasts = [*np.flatnonzero(turns).tolist(), len(some) - 1]  # of each run of a partition
            for partition, offset in zip(
                columns.partitions[lasts].tolist(), columns.offsets[lasts].tolist(), strict=True
            ):
                positions[TP(topic, partition)] = offset + 1

    def _assign_at(self, offsets: dict[TP, int], generation: int) -> bool:
        if generation != self.generation:
            return False
        self.kafka.assign(
            [TopicPartition(tp.topic, tp.partition, at) for tp, at in offsets.items()]
        )
        self.positions = offsets
        self.at_end.clear()
        # asked here, in the lane: from another thread it blocks during a rebalance callback
        self.group = self.kafka.consumer_group_metadata()
        return True

    def _on_assign(self, kafka: Consumer, partitions: list[TopicPartition]) -> None:
        kafka.assign([])  # nothing is read before the state is there
        self.generation += 1
        owned = {TP(tp.topic, tp.partition) for tp in partitions}
        asyncio.run_coroutine_threadsafe(
            self._callbacks.assigned(owned, self.generation), self._loop
        )

    def _on_release(self, kafka: Consumer, *, lost: bool) -> None:
        future = asyncio.run_coroutine_threadsafe(self._callbacks.released(lost=lost), self._loop)
        try:
            future.result(REVOKE_DEADLINE)
        except Exception as exc:  # the group moves on without this commit
            logger.error("giving partitions back failed: %r", exc)
        self.generation += 1
        self.positions = {}
        kafka.unassign()

    def _leave(self) -> None:
        self.kafka.unsubscribe()
        deadline = time.monotonic() + 5
        while self.positions and time.monotonic() < deadline:
            self.kafka.poll(0.05)
        self.kafka.close()
