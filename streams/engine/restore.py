"""Restore: bring the tasks' state to where the committed offsets stand.

Upstream: the changelogs, the input topics, checkpoints. Downstream: `Task.resume_from` or `load`,
`restore`, `replay`.

Invariants: a changelog is read up to the *high watermark* taken after the stable committed offsets
were fetched, waiting for the last stable offset to pass it; stopping at the read_committed end
would race with a transaction whose markers are still being written. Input is replayed up to the
committed offset and not a record further. Whoever follows the work of others takes offsets and
ends while no transaction is under way (`at_rest`), or rows of the next one would count twice. What
a checkpoint holds is not read (`resumption.py`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from streamgauge.schemas import faultpoint
from streamgauge.schemas.messages import Messages
from streamgauge.schemas.topics import qualified
from streamgauge.streams.engine import telemetry
from streamgauge.streams.engine.checkpoint import Checkpoints
from streamgauge.streams.engine.engine import Engine
from streamgauge.streams.engine.errors import Rollback
from streamgauge.streams.engine.lookup import Lookup, Place
from streamgauge.streams.engine.resumption import Resumption, Span
from streamgauge.streams.engine.task import Task

logger = logging.getLogger(__name__)

SLICE = 1_000  # messages that are still in the processor's cache when their columns are taken
CHUNK = 50_000  # messages that a task is handed at once, at most


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
    """How far a restore has come, in offsets, of which not all are records."""

    total: int = 0
    done: int = 0
    rows: int = 0
    loaded: int = 0
    """Checkpoints taken up."""
    started: float = field(default_factory=time.monotonic)
    seconds: float | None = None
    """How long it took; None while it goes on."""

    def status(self) -> dict[str, Any]:
        elapsed = self.seconds or time.monotonic() - self.started
        rate = self.done / elapsed if elapsed > 0 else 0.0
        left = max(0, self.total - self.done)
        return {
            "done": self.done,
            "total": self.total,
            "rows": self.rows,
            "checkpoints": self.loaded,
            "rate": round(rate),
            "seconds": round(elapsed, 1),
            "seconds_left": round(left / rate, 1) if rate else None,
        }


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What one task has to read."""

    task: Task
    owned: set[int]
    changelogs: Mapping[str, Mapping[int, Span]]
    replayed: Mapping[int, Span]

    def size(self) -> int:
        all_of_it = (self.replayed, *self.changelogs.values())
        spans = [span for spans in all_of_it for span in spans.values()]
        return sum(max(0, end - start) for start, end in spans)


class Restorer:
    """Reads state back; every method blocks and runs in one lane."""

    def __init__(
        self,
        kafka: Mapping[str, Any],
        namespace: str = "",
        checkpoints: Checkpoints | None = None,
    ) -> None:
        self._kafka, self._namespace = kafka, namespace
        self._lookup = Lookup(kafka)
        self.resumption = Resumption(checkpoints, self._lookup) if checkpoints else None
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

    def at_rest(
        self, consumer: Consumer, changelogs: Mapping[Place, Collection[Place]]
    ) -> tuple[dict[Place, Commit], dict[Place, int]]:
        """What is committed of places that somebody else works on, and where their changelogs end
        with it; without the places of which a transaction is under way."""
        before = self.committed(consumer, changelogs)
        logs = {log for of_place in changelogs.values() for log in of_place}
        stable, ends = self._lookup.stable_ends(logs), self._lookup.ends(logs)
        commits = {
            place: commit
            for place, commit in self.committed(consumer, changelogs).items()
            if commit.offset >= 0
            and commit == before[place]
            and all(stable.get(log) == ends.get(log) for log in changelogs[place])
        }
        return commits, {log: ends[log] for p in commits for log in changelogs[p] if log in ends}

    def run(
        self,
        engine: Engine,
        commits: Mapping[Place, Commit],
        cancelled: Callable[[], bool],
        ends: Mapping[Place, int] | None = None,
    ) -> dict[Place, int]:
        """Restore every task for the partitions in `commits`; gives the offsets to read on from.

        `ends`: of the changelogs, where others go on writing to them.
        """
        self.progress = progress = Progress()
        lows = self._lookup.starts(commits)
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
                lost = telemetry.DELETED_UNREAD.labels(engine.unqualified(place[0]))
                lost.inc(low - commit.offset)
        plans = []
        for task in engine.tasks:
            topic = engine.qualified(task.topic)
            owned = {partition for name, partition in commits if name == topic}
            if owned:
                plans.append(self._plan(task, topic, owned, commits, positions, lows, ends))
        progress.total = sum(plan.size() for plan in plans)
        for plan in plans:
            self._carry_out(plan, engine, cancelled)
        progress.seconds = time.monotonic() - progress.started
        telemetry.RESTORE_SECONDS.set(progress.seconds)
        telemetry.RESTORE_ROWS.set(progress.rows)
        if progress.total or progress.loaded:
            logger.info(
                "restored %d rows in %.1f s, %d partitions from checkpoints",
                progress.rows, progress.seconds, progress.loaded,
            )  # fmt: skip
        return positions

    # -- what to read ------------------------------------------------------------------------

    def _plan(
        self,
        task: Task,
        topic: str,
        owned: set[int],
        commits: Mapping[Place, Commit],
        positions: Mapping[Place, int],
        lows: Mapping[Place, int],
        ends: Mapping[Place, int] | None,
    ) -> Plan:
        """Take up checkpoints; what they leave out, or all where there is none, is to be read."""
        names = {changelog: qualified(self._namespace, changelog) for changelog in task.changelogs}
        places = [(name, partition) for name in names.values() for partition in owned]
        firsts = self._lookup.starts(places)
        highs = self._lookup.ends(places) if ends is None else ends
        highs = {place: highs[place] for place in places if place in highs}
        if len(highs) < len(places) and any(commits[topic, p].offset >= 0 for p in owned):
            missing = ", ".join(sorted({name for name, _ in set(places) - set(highs)}))
            raise Rollback(f"the changelog {missing} is not there, although it was written")
        if self.resumption is not None:
            self.resumption.identify([topic, *names.values()], highs)
        replayed = dict[int, Span]()
        logs = {changelog: dict[int, Span]() for changelog in names}
        for partition in owned:
            place, commit = (topic, partition), commits[topic, partition]
            start, position = lows.get(place, 0), positions[place]
            spans = {
                name: (firsts[name, partition], highs[name, partition])
                for name in names.values()
                if (name, partition) in highs
            }
            held = None
            if self.resumption is not None:
                committed = commit.offset, commit.metadata
                held = self.resumption.load(task, place, start, committed, spans)
            if held is None:
                first = task.resume_from(partition, position, commit.metadata)
                replayed[partition] = max(first, start), position
            else:
                self.progress.loaded += 1
                spans = {
                    name: (held.changelogs[name].next, end) for name, (_, end) in spans.items()
                }
                if task.tail == "input":
                    spans, replayed[partition] = {}, (held.offset, position)
            for changelog, name in names.items():
                if name in spans:
                    logs[changelog][partition] = spans[name]
        return Plan(task=task, owned=owned, changelogs=logs, replayed=replayed)

    # -- reading it --------------------------------------------------------------------------

    def _carry_out(self, plan: Plan, engine: Engine, cancelled: Callable[[], bool]) -> None:
        task = plan.task
        for changelog, spans in plan.changelogs.items():

            def rows(messages: Messages, name: str = changelog) -> None:
                for partition in np.unique(messages.partitions).tolist():
                    of_it = np.flatnonzero(messages.partitions == partition).tolist()
                    keys = [messages.keys[index] or b"" for index in of_it]
                    values = [messages.values[index] for index in of_it]
                    task.restore(name, keys, values, partition)

            self._read(qualified(self._namespace, changelog), spans, rows, cancelled)

        topic = engine.qualified(task.topic)

        def replay(messages: Messages) -> None:
            task.replay(engine.decode(topic, messages))

        self._read(topic, plan.replayed, replay, cancelled)
        task.restored(plan.owned)

    def _read(
        self,
        topic: str,
        spans: Mapping[int, Span],
        handle: Callable[[Messages], None],
        cancelled: Callable[[], bool],
    ) -> None:
        """Hand over every committed record of each partition's span of offsets, in order."""
        left = {partition for partition, (start, end) in spans.items() if start < end}
        if not left:
            return
        at, end = (np.zeros(max(left) + 1, np.int64) for _ in range(2))
        for partition in left:
            at[partition], end[partition] = spans[partition]
        done = self.progress.done
        todo = int((end - at).sum())
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
            consumer.assign([TopicPartition(topic, p, int(at[p])) for p in sorted(left)])
            gathered: list[Messages] = []
            while left:
                if cancelled():
                    raise Cancelled
                faultpoint.reached("during_restore")
                chunk = cast(list[Any], consumer.consume(SLICE, 0.2))
                records = chunk
                if any(map(Message.error, chunk)):
                    records = self._sort_out(topic, chunk, at)
                if records:
                    messages = Messages.of(records, topic)
                    np.maximum.at(at, messages.partitions, messages.offsets + 1)
                    inside = messages.offsets < end[messages.partitions]
                    if not inside.all():
                        kept = [r for r, wanted in zip(records, inside, strict=True) if wanted]
                        messages = Messages.of(kept, topic)
                    gathered.append(messages)
                ended = {partition for partition in left if at[partition] >= end[partition]}
                if ended:
                    consumer.pause([TopicPartition(topic, partition) for partition in ended])
                    left -= ended
                if not left or len(chunk) < SLICE or len(gathered) * SLICE >= CHUNK:
                    self._hand_over(gathered, handle)
                    gathered = []
                self.progress.done = done + todo - int(np.maximum(end - at, 0).sum())
        finally:
            consumer.close()

    def _sort_out(self, topic: str, chunk: list[Any], at: np.ndarray) -> list[Any]:
        """Only the records; at an end of a partition, the last stable offset has passed it."""
        records = []
        for message in chunk:
            error = message.error()
            if error is None:
                records.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                at[message.partition()] = max(at[message.partition()], message.offset())
            else:
                logger.warning("restore of %s: %s", topic, error.str())
        return records

    def _hand_over(self, gathered: list[Messages], handle: Callable[[Messages], None]) -> None:
        messages = Messages.joined(gathered) if gathered else ()
        if messages:
            handle(messages)
            self.progress.rows += len(messages)


def _commit(tp: TopicPartition) -> Commit:
    if tp.offset < 0:  # OFFSET_INVALID: nothing is committed
        return Commit(offset=-1)
    stamp, _, metadata = (tp.metadata or "").partition(";")
    return Commit(offset=tp.offset, stamp=stamp, metadata=metadata)
