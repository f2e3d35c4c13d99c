"""The reader: librdkafka's consumer in a lane of its own, and where it stands.

Upstream: Kafka's group protocol (classic, range assignor). Downstream: `consumer.py`, which gets
records; `membership.py`, which gets the group's callbacks. They run inside `consume()`, so it must
be called from subscription on; a revocation is answered there, in the lane, with the loop at work.

Invariants: nothing is read before `read_from`; `positions` is the next offset to read of every
partition owned, past the transaction markers, which are no records.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, Protocol, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from faust.types import TP

from streamgauge.streams.engine import telemetry
from streamgauge.streams.engine.lane import Lane
from streamgauge.streams.engine.task import Record

logger = logging.getLogger(__name__)

REVOKE_DEADLINE = 60.0  # below max.poll.interval.ms
MOST_AT_ONCE = 20_000


class Callbacks(Protocol):
    """What the group tells."""

    def assigned(self, owned: set[TP], generation: int) -> Coroutine[Any, Any, None]: ...

    def released(self, *, lost: bool) -> Coroutine[Any, Any, None]: ...


class Reader:
    """Reads the partitions that the group has assigned."""

    def __init__(self, kafka: Mapping[str, Any], group: str) -> None:
        self.lane = Lane("poll")
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
                "queued.max.messages.kbytes": 65536,
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

    async def read(self, room: int, wait: float) -> dict[TP, list[Record]]:
        """Up to `room` records, after at most `wait` seconds; none from before a rebalance."""
        generation = self.generation
        records = await self.lane.run(self._consume, room, wait)
        return records if generation == self.generation else {}

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

    def _consume(self, room: int, wait: float) -> dict[TP, list[Record]]:
        found: dict[tuple[str, int], list[Record]] = {}
        ended: dict[tuple[str, int], int] = {}
        for record in cast(list[Record], self.kafka.consume(min(room, MOST_AT_ONCE), wait)):
            error = record.error()
            place = (record.topic(), record.partition())
            if error is None:
                try:
                    found[place].append(record)
                except KeyError:
                    found[place] = [record]
                if ended:
                    ended.pop(place, None)
            elif error.code() == KafkaError._PARTITION_EOF:
                ended[place] = record.offset()
            elif error.fatal():
                raise KafkaException(error)
            else:
                logger.warning("consume: %s", error.str())
        records = {TP(*place): some for place, some in found.items()}
        for tp, some in records.items():
            if tp in self.positions:
                self.positions[tp] = some[-1].offset() + 1
                self.at_end.discard(tp)
        for place, offset in ended.items():
            tp = TP(*place)
            if tp in self.positions:  # past the markers
                self.positions[tp] = offset
                self.at_end.add(tp)
        return records

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
