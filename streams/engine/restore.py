"""Restore: bring the tasks' state to where the committed offsets stand.

Upstream: the changelogs and the input topics. Downstream: `Task.resume_from`, `restore`, `replay`.

Invariants: a changelog is read up to the *high watermark* taken after the stable committed offsets
were fetched, waiting for the last stable offset to pass it; stopping at the read_committed end
would race with a transaction whose markers are still being written. Input is replayed up to the
committed offset and not a record further.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from streamgauge.schemas import faultpoint
from streamgauge.schemas.topics import qualified
from streamgauge.streams.engine import telemetry
from streamgauge.streams.engine.engine import Engine
from streamgauge.streams.engine.errors import Rollback
from streamgauge.streams.engine.task import Record, Task

logger = logging.getLogger(__name__)

Place = tuple[str, int]
CHUNK = 20_000


class Cancelled(Exception):
    """The partitions were taken away while they were being restored."""


@dataclass(frozen=True, kw_only=True)
class Commit:
    """What the group has committed for one partition: an offset, who wrote it, a task's text."""

    offset: int
    stamp: str = ""
    metadata: str = ""


@dataclass
class Progress:
    """How far a restore has come; `total` counts offsets, so it is an upper bound of rows."""

    total: int = 0
    done: int = 0
    started: float = field(default_factory=time.monotonic)


class Restorer:
    """Reads state back; every method blocks and runs in one lane."""

    def __init__(self, kafka: Mapping[str, Any], namespace: str = "") -> None:
        self._kafka, self._namespace = kafka, namespace
        self.progress = Progress()

    def committed(self, consumer: Consumer, places: Iterable[Place]) -> dict[Place, Commit]:
        """Stable committed offsets: those of a transaction that has ended."""
        asked = [TopicPartition(topic, partition) for topic, partition in places]
        deadline = time.monotonic() + 60
        while asked:
            try:
                found = consumer.committed(asked, timeout=10)
                if all(tp.error is None for tp in found):
                    return {(tp.topic, tp.partition): _commit(tp) for tp in found}
                problem: Any = next(tp.error for tp in found if tp.error)
            except KafkaException as exc:
                problem = exc.args[0]
            if time.monotonic() > deadline:
                raise Rollback(f"the committed offsets cannot be read: {problem}")
            time.sleep(0.1)
        return {}

    def run(
        self,
        engine: Engine,
        commits: Mapping[Place, Commit],
        cancelled: Callable[[], bool],
    ) -> dict[Place, int]:
        """Restore every task for the partitions in `commits`; gives the offsets to read on from."""
        self.progress = progress = Progress()
        lows = self._offsets(commits, OffsetSpec.earliest())
        positions: dict[Place, int] = {}
        for place, commit in commits.items():
            low = lows.get(place, 0)
            positions[place] = max(commit.offset, low)
            if 0 <= commit.offset < low:
                logger.error(
                    "%s/%d: records %d to %d were deleted by the topic's retention before they "
                    "were processed; reading on from %d. Raise retention.ms.",
                    *place, commit.offset, low - 1, low,
                )  # fmt: skip
        for task in engine.tasks:
            topic = engine.qualified(task.topic)
            owned = {partition for name, partition in commits if name == topic}
            if not owned:
                continue
            starts = {}
            for partition in owned:
                place, text = (topic, partition), commits[topic, partition].metadata
                start = task.resume_from(partition, positions[place], text)
                starts[place] = (max(start, lows.get(place, 0)), positions[place])
            used = any(commits[topic, partition].offset >= 0 for partition in owned)
            self._changelogs(task, owned, progress, cancelled, required=used)

            def replay(
                _: Place, messages: list[Record], task: Task = task, topic: str = topic
            ) -> None:
                task.replay(engine.decode(topic, messages))

            self._read(starts, replay, progress, cancelled)
            task.restored(owned)
        telemetry.RESTORE_SECONDS.set(time.monotonic() - progress.started)
        telemetry.RESTORE_ROWS.set(progress.done)
        return positions

    def _changelogs(
        self,
        task: Task,
        owned: set[int],
        progress: Progress,
        cancelled: Callable[[], bool],
        *,
        required: bool,
    ) -> None:
        for changelog in task.changelogs:
            topic = qualified(self._namespace, changelog)
            places = [(topic, partition) for partition in owned]
            lows = self._offsets(places, OffsetSpec.earliest())
            highs = self._offsets(places, OffsetSpec.latest())
            if required and len(highs) < len(places):
                raise Rollback(f"the changelog {topic} is not there, although it was written")

            def rows(place: Place, messages: list[Record], name: str = changelog) -> None:
                task.restore(
                    name,
                    [m.key() or b"" for m in messages],
                    [m.value() for m in messages],
                    place[1],
                )

            spans = {place: (lows[place], highs[place]) for place in places if place in highs}
            self._read(spans, rows, progress, cancelled)

    def _offsets(self, places: Iterable[Place], spec: OffsetSpec) -> dict[Place, int]:
        """Log start or high watermark (not the last stable offset) of each partition."""
        asked = {TopicPartition(topic, partition): spec for topic, partition in places}
        if not asked:
            return {}
        admin = AdminClient(dict(self._kafka))
        futures = admin.list_offsets(
            asked, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=20
        )
        found = {}
        for tp, future in futures.items():
            try:
                found[tp.topic, tp.partition] = future.result().offset
            except KafkaException as exc:
                if exc.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
                    raise
        return found

    def _read(
        self,
        spans: Mapping[Place, tuple[int, int]],
        handle: Callable[[Place, list[Record]], None],
        progress: Progress,
        cancelled: Callable[[], bool],
    ) -> None:
        """Hand over every committed record of each half-open span of offsets, in order."""
        left = {place: end for place, (start, end) in spans.items() if start < end}
        if not left:
            return
        progress.total += sum(end - start for start, end in spans.values() if start < end)
        consumer = Consumer(
            {
                "fetch.queue.backoff.ms": 5,
                "queued.max.messages.kbytes": 65536,
                "fetch.message.max.bytes": 1 << 21,
                **self._kafka,
                "group.id": "streamgauge-restore",
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
            }
        )
        try:
            consumer.assign([TopicPartition(t, p, spans[t, p][0]) for t, p in left])
            while left:
                if cancelled():
                    raise Cancelled
                faultpoint.reached("during_restore")
                chunks: dict[Place, list[Record]] = defaultdict(list)
                ended = set()
                for message in cast(list[Record], consumer.consume(CHUNK, 0.2)):
                    place, offset = (message.topic(), message.partition()), message.offset()
                    if place not in left:
                        continue
                    error = message.error()
                    if error is None:
                        if offset < left[place]:
                            chunks[place].append(message)
                        if offset >= left[place] - 1:
                            ended.add(place)
                    elif error.code() == KafkaError._PARTITION_EOF:
                        if offset >= left[place]:  # the last stable offset has passed the end
                            ended.add(place)
                    else:
                        logger.warning("restore of %s/%d: %s", *place, error.str())
                for place, messages in chunks.items():
                    handle(place, messages)
                    progress.done += len(messages)
                if ended:
                    consumer.pause([TopicPartition(t, p) for t, p in ended])
                    for place in ended:
                        del left[place]
        finally:
            consumer.close()


def _commit(tp: TopicPartition) -> Commit:
    if tp.offset < 0:  # OFFSET_INVALID: nothing is committed
        return Commit(offset=-1)
    stamp, _, metadata = (tp.metadata or "").partition(";")
    return Commit(offset=tp.offset, stamp=stamp, metadata=metadata)
