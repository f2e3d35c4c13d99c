"""One membership in the sink's consumer group: from subscribing until a fence or the end.

Upstream: the runner. Downstream: the sink. The loop, in one thread:

    assigned ──> open the sink ──> assign at its own positions ──> consume ⇄ write
       ^              │ outage: pause, back off, again                 │
       └── revoked: write once, let go                Rewound ─> open again; Fenced ─> leave

Invariants: nothing is fetched before the sink has said where to read on; while the target is out
nothing is fetched either, but the loop goes on polling, so the membership stays; what is buffered
may be dropped at any time, since the position moves only with the rows. Offsets committed to
Kafka are for lag monitors alone and are never read.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from streamgauge.schemas import faultpoint
from streamgauge.schemas.errors import StreamgaugeError
from streamgauge.schemas.topics import qualified
from streamgauge.sinks.batches import Batches
from streamgauge.sinks.buffer import Buffer
from streamgauge.sinks.errors import Fatal, Retryable, Rewound
from streamgauge.sinks.health import Progress
from streamgauge.sinks.logs import Logs
from streamgauge.sinks.outage import Outage
from streamgauge.sinks.sink import Batch, Partition, Range, Sink
from streamgauge.sinks.telemetry import BATCHES, LAG, REWOUND, ROWS, WRITE_SECONDS

log = logging.getLogger(__name__)

PROVE_EVERY = 2.0
"""Seconds without a write after which an empty one proves that fence and target still stand."""

_LOAD = 5000
"""Messages taken at once."""

Step = Callable[[], None]


class Session:
    """Consumes and writes until `stop`, or until it is `Fenced` by somebody newer."""

    def __init__(
        self,
        *,
        kind: str,
        sink: Sink,
        batches: Batches,
        logs: Logs,
        conf: Mapping[str, Any],
        namespace: str,
        interval: float,
        rows: int,
        bytes: int,
        progress: Progress,
        outage: Outage,
        every: bool = False,
    ) -> None:
        """`every`: the sink is told each record, also those that a newer one replaces."""
        self._kind = kind
        self._sink = sink
        self._batches = batches
        self._logs = logs
        self._interval = interval
        self._rows = rows
        self._bytes = bytes
        self._load = min(rows, _LOAD)
        self._progress = progress
        self._outage = outage
        self._names = {qualified(namespace, topic): topic for topic in sink.topics}
        self._consumer = Consumer(dict(conf))
        self._consumer.subscribe(
            list(self._names),
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_lost,
        )
        self._buffer = Buffer(every=every)
        self._assigned: list[TopicPartition] | None = None
        self._to_open = False
        self._paused = False
        self._positions: dict[Partition, int] = {}  # written up to here
        self._ends: dict[Partition, int] = {}  # read up to here
        self._pending: list[Batch] = []
        self._written_at = self._proved_at = 0.0
        self._complaint: str | None = None

    def run(self, stop: Callable[[], bool]) -> None:
        """The loop. What is buffered at the end is written while closing."""
        try:
            while not stop():
                now = self._progress.turned_at = time.monotonic()
                self._progress.ready = (
                    self._assigned is not None and not self._to_open and not self._outage.down
                )
                self._take(self._consumer.consume(self._load, self._patience(now)))
                now = time.monotonic()
                if self._to_open:
                    self._attempt(self._open, now)
                elif self._due(now):
                    self._attempt(self._write, now)
        finally:
            self._progress.ready = False
            self._consumer.close()

    # -- reading ---------------------------------------------------------------------------

    def _patience(self, now: float) -> float:
        """How long to wait for messages: `consume` waits this long unless it gets a full load."""
        if self._outage.down:
            return 0.1
        return min(max(self._written_at + self._interval - now, 0.02), 0.25)

    def _take(self, messages: Sequence[Message]) -> None:
        """Keep messages, and how far they go: an end of partition lies behind the markers.

        A rebalance may happen while messages are being collected; those of partitions that are
        no longer read, or not yet again, are not taken.
        """
        by_topic: dict[str, list[Message]] = {}
        for message in messages:
            error = message.error()
            if error is not None and error.code() != KafkaError._PARTITION_EOF:
                self._complain(error)
                continue
            topic = self._names[str(message.topic())]
            partition, offset = message.partition(), message.offset()
            assert partition is not None and offset is not None
            at = topic, partition
            if offset < self._ends.get(at, math.inf):
                continue
            if error is None:
                by_topic.setdefault(topic, []).append(message)
                offset += 1
            self._ends[at] = offset
        for topic, some in by_topic.items():
            self._buffer.add(topic, some)

    def _complain(self, error: KafkaError) -> None:
        if error.fatal():
            raise Fatal(f"Kafka: {error.str()}")
        if error.name() != self._complaint:
            self._complaint = error.name()
            log.warning("Kafka: %s", error.str())

    def _due(self, now: float) -> bool:
        if self._buffer.rows >= self._rows or self._buffer.bytes >= self._bytes:
            return True
        if not self._positions or now - self._written_at < self._interval:
            return False
        return bool(self._pending or self._buffer.rows) or now - self._proved_at >= PROVE_EVERY

    # -- writing ---------------------------------------------------------------------------

    def _attempt(self, step: Step, now: float) -> None:
        """One step against the target, unless it is to be left alone still."""
        if now < self._outage.until:
            return
        try:
            step()
        except Rewound as error:
            log.warning("%s sink reads again: %s", self._kind, error)
            REWOUND.labels(self._kind).inc()
            self._drop()
            self._to_open = True
            self._consumer.assign([])
        except Exception as error:
            if not (isinstance(error, StreamgaugeError) and error.retryable):
                self._drop()  # or closing would try to write it once more
                raise
            self._outage.failed(time.monotonic(), error)
            self._pause(True)
        else:
            self._outage.over(time.monotonic())
            self._pause(False)

    def _open(self) -> None:
        """Take the partitions over, and read on from where the sink is."""
        assigned = self._assigned or []
        logs = self._logs.of({one.topic for one in assigned})
        resume = self._sink.open(
            {(self._names[one.topic], one.partition): logs[one.topic] for one in assigned}
        )
        start = []
        for one in assigned:
            at = self._names[one.topic], one.partition
            self._positions[at] = offset = self._start(one, resume[at])
            start.append(TopicPartition(one.topic, one.partition, offset))
        self._ends = dict(self._positions)
        self._consumer.assign(start)
        self._consumer.resume(start)  # librdkafka keeps a pause over any new assignment
        self._paused = False
        self._to_open = False
        log.info("%s sink reads %s", self._kind, self._positions)

    def _start(self, one: TopicPartition, resume: int | None) -> int:
        """Where to read a partition from: the sink's position, if the log still has it."""
        place = f"{one.topic}/{one.partition}"
        try:
            held = self._consumer.get_watermark_offsets(one, timeout=10)
        except KafkaException as error:
            raise Retryable(f"Kafka: {place}: {error.args[0].str()}") from error
        if held is None:
            raise Retryable(f"Kafka did not say in time where {place} begins")
        low, high = held
        if resume is None:
            return low
        if resume > high:
            raise Retryable(
                f"{place} ends at {high}, but {resume} was written already: if this stays so, the "
                "log was cut; delete the partition's position in the target to read it anew"
            )
        if resume < low:
            log.error("%s: offsets %d to %d were deleted unread", place, resume, low - 1)
        return max(resume, low)

    def _write(self) -> None:
        """Write what is pending; batches that failed are tried again as they were."""
        self._written_at = time.monotonic()
        if not self._pending:
            self._pending = self._gather(prove=self._written_at - self._proved_at >= PROVE_EVERY)
            self._buffer.clear()
        while self._pending:
            batch = self._pending[0]
            if batch.messages:
                faultpoint.reached("sink_before_write")
            with WRITE_SECONDS.labels(self._kind, batch.topic).time():
                self._sink.write(batch)
            if batch.messages:
                faultpoint.reached("sink_after_commit")
            del self._pending[0]
            self._written(batch)
        self._commit()

    def _gather(self, *, prove: bool) -> list[Batch]:
        """One batch for each topic that has gone on, or for all of them."""
        ranges: dict[str, dict[int, Range]] = {}
        for (topic, partition), start in self._positions.items():
            end = self._ends[topic, partition]
            ranges.setdefault(topic, {})[partition] = Range(start=start, end=end)
        if prove:
            self._proved_at = self._written_at
        return [
            self._batches.make(topic, self._buffer.messages(topic), spans)
            for topic, spans in ranges.items()
            if prove or any(span.end > span.start for span in spans.values())
        ]

    def _written(self, batch: Batch) -> None:
        for partition, span in batch.ranges.items():
            self._positions[batch.topic, partition] = span.end
        ROWS.labels(self._kind, batch.topic).inc(len(batch.frame) + len(batch.tombstones))
        BATCHES.labels(self._kind, batch.topic).inc()

    def _commit(self) -> None:
        """Tell Kafka, for lag monitors; nobody depends on it."""
        offsets = []
        for one in self._assigned or []:
            at = self._names[one.topic], one.partition
            offsets.append(TopicPartition(one.topic, one.partition, self._positions[at]))
            _, high = self._consumer.get_watermark_offsets(one, cached=True)
            LAG.labels(self._kind, *map(str, at)).set(max(0, high - self._positions[at]))
        with suppress(KafkaException):
            if offsets:
                self._consumer.commit(offsets=offsets, asynchronous=True)

    # -- membership ------------------------------------------------------------------------

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # Nothing is fetched until the loop has opened the sink: that may take a while, and a
        # callback that waits would cost the membership.
        consumer.assign([])
        self._assigned = partitions
        self._to_open = True

    def _on_revoke(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if self._positions and not self._outage.down:
            try:
                self._write()
            except StreamgaugeError as error:  # the next owner reads it again
                log.info("%s sink leaves records unwritten: %s", self._kind, error)
        self._on_lost(consumer, partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        for topic, partition in self._positions:
            with suppress(KeyError):
                LAG.remove(self._kind, topic, str(partition))
        self._drop()
        self._assigned = None
        self._to_open = False
        consumer.unassign()

    def _drop(self) -> None:
        self._buffer.clear()
        self._pending = []
        self._positions, self._ends = {}, {}

    def _pause(self, paused: bool) -> None:
        if paused != self._paused and self._positions and self._assigned:
            (self._consumer.pause if paused else self._consumer.resume)(self._assigned)
            self._paused = paused
