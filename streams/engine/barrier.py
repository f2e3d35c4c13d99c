"""The barrier: what was read, what it made and what is remembered of it move together.

Upstream: `consumer.py`, once all that was delivered has been acknowledged. Downstream: the
transaction, and the tasks' `commit` or `abort`.

Invariants: offsets are never an empty list while partitions are owned (an empty list fences
nothing); each commit's offsets carry a stamp, so that after an ambiguous timeout, and after a
rebalance, the group's own record tells whether it was ours.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Mapping, Sequence, Set
from typing import Any

from confluent_kafka import KafkaException, TopicPartition
from faust.types import TP

from streamgauge.streams.engine import telemetry
from streamgauge.streams.engine.checkpointing import Checkpointing
from streamgauge.streams.engine.engine import Engine
from streamgauge.streams.engine.errors import Rollback
from streamgauge.streams.engine.lane import Lane, in_thread
from streamgauge.streams.engine.reader import Reader
from streamgauge.streams.engine.restore import Restorer
from streamgauge.streams.engine.task import Output, Task
from streamgauge.streams.engine.transaction import Ambiguous

# send_offsets_to_transaction may never return (librdkafka 5456), as when the connection broke while
# rows were being sent. By now the broker has aborted the transaction: its timeout and clean-up.
COMMIT_WATCHDOG = 20.0

logger = logging.getLogger(__name__)


class Barrier:
    """Commits and rolls back, in the transaction's lane."""

    def __init__(
        self,
        engine: Engine,
        reader: Reader,
        restorer: Restorer,
        checkpointing: Checkpointing | None = None,
    ) -> None:
        self.engine, self.reader, self.restorer = engine, reader, restorer
        self.lane = Lane("transaction")
        self.committed: dict[TP, int] = {}
        #: Who made the last commit of each partition whose state we hold.
        self.stamps: dict[TP, str] = {}
        self.checkpointing = checkpointing
        self.commits = 0
        self.alive_at = time.monotonic()
        self._incarnation = uuid.uuid4().hex[:12]

    async def open(self) -> None:
        """Start the producer; what an earlier process of this name left open is aborted."""
        await self.lane.run(self.engine.transaction.open)

    async def commit_all(self, still: Set[str] = frozenset()) -> bool:
        """Flush the tasks and commit; False when there was nothing to commit.

        What has been read of the topics in `still` has not been processed, and is not committed.
        """
        started = time.monotonic()
        for task in self.engine.tasks:  # one task's rows are on their way while the next flushes
            if self.engine.qualified(task.topic) not in still:
                await self.write(await in_thread(_flushed, task, started))
        if self._positions(still) == self.committed and not self.engine.transaction.begun:
            return False
        await self.commit(still)
        telemetry.COMMIT_SECONDS.observe(time.monotonic() - started)
        return True

    def _positions(self, still: Set[str]) -> dict[TP, int]:
        """Up to where input has been processed, where that of these topics has not."""
        return {
            tp: self.committed[tp] if tp.topic in still else position
            for tp, position in self.reader.positions.items()
        }

    async def commit(self, still: Set[str] = frozenset()) -> None:
        """Commit positions, the rows written, and states; raises Rollback or Fenced."""
        stamp = f"{self._incarnation}.{self.commits + 1}"
        positions = self._positions(still)
        offsets = [
            TopicPartition(tp.topic, tp.partition, offset, f"{stamp};{self._metadata(tp)}")
            for tp, offset in positions.items()
        ]
        async with self.engine.producing:  # a timer's rows wait for the next transaction
            try:
                await self.lane.run(self._end, offsets, timeout=COMMIT_WATCHDOG)
            except (TimeoutError, Ambiguous) as exc:
                logger.warning("the commit's outcome is unknown (%s); asking the group", exc)
                if not await self._did_commit(stamp, positions):
                    raise Rollback("the commit did not happen") from exc
            self.engine.unattached.clear()
        self.commits += 1
        self.committed = positions
        self.stamps.update(dict.fromkeys(positions, stamp))
        for task in self.engine.tasks:
            if self.engine.qualified(task.topic) not in still:
                task.commit()
        if self.checkpointing is not None:
            self.checkpointing.committed(positions)
        telemetry.COMMITS.inc()

    async def commit_unassigned(self) -> None:
        """Commit what timers sent in a worker that owns nothing: there are no offsets."""
        if self.engine.transaction.begun:
            async with self.engine.producing:
                try:
                    await self.lane.run(self._end, [], timeout=COMMIT_WATCHDOG)
                except (TimeoutError, Ambiguous) as exc:
                    raise Rollback("whether timers' rows were committed is unknown") from exc
                self.engine.unattached.clear()

    def _end(self, offsets: Sequence[TopicPartition]) -> None:
        self.engine.transaction.commit(offsets, self.reader.group, self.reader.kafka)

    async def write(self, outputs: Sequence[Output]) -> None:
        """Add rows to the current transaction before its barrier."""
        if outputs:
            await self.lane.run(self._add, outputs)

    def _add(self, outputs: Sequence[Output]) -> None:
        for output in outputs:
            self.engine.transaction.write(output)

    async def _did_commit(self, stamp: str, positions: Mapping[TP, int]) -> bool:
        """Once a new producer has settled the old one's transaction, the offsets' stamp tells."""
        self.engine.transaction.abandon(self.lane.thread)  # it may never come back
        self.lane = Lane("transaction")
        await self._persist(self.engine.transaction.open)
        places = [(tp.topic, tp.partition) for tp in positions]
        found = await asyncio.to_thread(self.restorer.committed, self.reader.kafka, places)
        return bool(found) and all(commit.stamp == stamp for commit in found.values())

    def _metadata(self, tp: TP) -> str:
        name = self.engine.unqualified(tp.topic)
        return "".join(t.metadata(tp.partition) for t in self.engine.tasks if t.topic == name)

    async def abort(self, cause: str, *, states: bool = True) -> None:
        """Abort the transaction and take the stable states again (not while they are restored)."""
        telemetry.ABORTED.labels(cause).inc()
        async with self.engine.producing:
            await self._persist(self.engine.transaction.abort)
            for row in self.engine.unattached:  # sent by timers: nothing will send them again
                self.engine.transaction.send(*row)
        for task in self.engine.tasks if states else ():
            task.abort()

    async def _persist(self, call: Any) -> None:
        """Run it until the broker is back; only a newer producer of our id ends it."""
        while True:
            try:
                return await self.lane.run(call)
            except KafkaException as exc:
                logger.warning("the transaction coordinator does not answer: %s", exc.args[0].str())
                self.alive_at = time.monotonic()
                await asyncio.sleep(1)

    async def close(self) -> None:
        """Abort what is open and let the producer go."""
        await self.lane.run(self.engine.transaction.close, timeout=10)
        await self.lane.run(self.engine.close)
        self.lane.close()


def _flushed(task: Task, now: float) -> list[Output]:
    return [output for output in task.flush(now) if output.keys]
