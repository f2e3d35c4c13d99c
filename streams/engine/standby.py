"""A warm standby: keeps the checkpoints of a group up to date, without being in it.

Upstream: the group's stable committed offsets, its input and changelogs. Downstream: checkpoints
on this machine, which a worker takes up that is started here, or is given partitions.

    every interval:   offsets O ──> last checkpoint + its tail up to O ──> checkpoint of O

    changelog    rows of O ─┬─ rows of the next commit ─┬─      O is taken here, between two
                            └ at rest                   └       transactions

It is a restore, as every worker does it, and then a snapshot; in between it holds no state at all.

Invariants: it commits nothing, writes nothing to Kafka, and fences nobody; a checkpoint of its own
is as good as a worker's, and one that does not fit is left to its owner.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import Consumer, KafkaException
from faust.types import TP

from streamgauge.streams.engine.checkpointing import Capture
from streamgauge.streams.engine.engine import Decoder, Engine
from streamgauge.streams.engine.errors import EngineError, Unsupported
from streamgauge.streams.engine.lookup import Place
from streamgauge.streams.engine.restore import Cancelled, Commit, Restorer

logger = logging.getLogger(__name__)

PATIENCE, PAUSE = 2.0, 0.02
"""Seconds in which a partition is looked for between two transactions, and between two looks."""


class Standby:
    """Follows one group."""

    def __init__(
        self, engine: Engine, decoder: Callable[[str, frozenset[str] | None], Decoder] | None
    ) -> None:
        if engine.checkpoints is None or decoder is None:
            raise Unsupported("a standby needs a folder of checkpoints, and commits by transaction")
        engine.open_decoders(decoder)
        self._engine, self._checkpoints = engine, engine.checkpoints.unowned()
        self._restorer = Restorer(engine.kafka, engine.namespace, self._checkpoints)
        self._consumer = Consumer(
            {
                **engine.kafka,
                "group.id": engine.checkpoints.group,
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
            }
        )
        self._last: dict[tuple[str, int], Commit] = {}
        self._written_at: float | None = None

    def run(self, stop: threading.Event) -> None:
        """Until told to stop; what fails is tried again."""
        while not stop.is_set():
            try:
                self._follow(stop)
            except Cancelled:
                break
            except (KafkaException, EngineError, OSError) as exc:
                logger.warning("the standby tries again: %r", exc)
            stop.wait(self._engine.checkpoint_interval)
        self._consumer.close()

    def status(self) -> dict[str, Any]:
        """As a worker's."""
        at = self._written_at
        return {
            "ready": at is not None,
            "assigned": sorted(f"{topic}/{partition}" for topic, partition in self._last),
            "restore": self._restorer.progress.status(),
            "checkpoint_age": None if at is None else round(time.monotonic() - at, 1),
        }

    def _follow(self, stop: threading.Event) -> None:
        engine, resumption = self._engine, self._restorer.resumption
        assert resumption is not None
        commits, ends = self._cut(stop)
        if not commits or commits == self._last:
            return
        try:
            self._restorer.run(engine, commits, stop.is_set, ends)
            for task in engine.tasks:
                task.commit()
            offsets = {TP(*place): commit.offset for place, commit in commits.items()}
            files = Capture.of(engine, offsets, resumption).write(engine, resumption)
        finally:
            for task in engine.tasks:
                task.revoke({partition for _, partition in commits})
        self._last, self._written_at = commits, time.monotonic()
        logger.info("%d checkpoints", files)

    def _cut(self, stop: threading.Event) -> tuple[dict[Place, Commit], dict[Place, int]]:
        """Of each partition a commit with the ends of its changelogs; a busy one may have none."""
        commits: dict[Place, Commit] = {}
        ends: dict[Place, int] = {}
        changelogs = self._changelogs()
        begun = self._restorer.committed(self._consumer, changelogs)
        left = {place: logs for place, logs in changelogs.items() if begun[place].offset >= 0}
        deadline = time.monotonic() + PATIENCE
        while left:
            found, at = self._restorer.at_rest(self._consumer, left)
            commits |= found
            ends |= at
            left = {place: logs for place, logs in left.items() if place not in found}
            if left and (time.monotonic() > deadline or stop.wait(PAUSE)):
                break
        return commits, ends

    def _changelogs(self) -> dict[Place, list[Place]]:
        """Every partition that the group reads, with those of its changelogs."""
        engine, topics = self._engine, self._consumer.list_topics(timeout=20).topics
        return {
            (engine.qualified(task.topic), partition): [
                (engine.qualified(name), partition) for name in task.changelogs
            ]
            for task in engine.tasks
            if engine.qualified(task.topic) in topics
            for partition in sorted(topics[engine.qualified(task.topic)].partitions)
        }
