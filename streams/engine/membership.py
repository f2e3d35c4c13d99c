"""Membership: taking partitions over, and giving them back.

Upstream: the group, through the reader's callbacks. Downstream: the tasks' state.

    none ──assigned──> restoring ──restored──> running ──revoked: commit──> none
                           │                      └──────lost: roll back──> none
                           └──revoked or lost: cancelled──> none

Invariants: restoring happens outside the callback, or a rebalance every few seconds would never
let it end; state is kept over a rebalance only where the group's stable offsets still carry the
stamp of the commit it is the state of; what is lost is dropped, never committed.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from faust.types import TP

from streamgauge.streams.engine import telemetry
from streamgauge.streams.engine.barrier import Barrier
from streamgauge.streams.engine.lane import Lane
from streamgauge.streams.engine.restore import Cancelled, Restorer

logger = logging.getLogger(__name__)

SETTLE_DEADLINE = 40.0  # seconds for the commit on revocation, below the reader's own deadline


class Membership:
    """What this worker owns, and whether its state is there.

    `announce` tells Faust of an assignment, `settle` processes what was read and commits it (True
    when it did), `discard` drops what was delivered, `withdraw` tells Faust that all is gone.
    """

    def __init__(
        self,
        barrier: Barrier,
        restorer: Restorer,
        *,
        announce: Callable[[set[TP]], Awaitable[None]],
        resume: Callable[[], None],
        settle: Callable[[], Awaitable[bool]],
        discard: Callable[[], Awaitable[None]],
        withdraw: Callable[[set[TP]], Awaitable[None]],
    ) -> None:
        self.barrier, self.restorer = barrier, restorer
        self.engine, self.reader = barrier.engine, barrier.reader
        self.lane = Lane("restore")
        self.owned: set[TP] = set()
        self.running = False
        self.taken_over = asyncio.Event()
        self._takeover: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()
        self._announce, self._resume, self._settle = announce, resume, settle
        self._discard, self._withdraw = discard, withdraw

    async def assigned(self, owned: set[TP], generation: int) -> None:
        """The group gives us exactly these partitions."""
        telemetry.REBALANCES.inc()
        telemetry.ASSIGNED.set(len(owned))
        logger.info("assigned %s", ", ".join(f"{t}/{p}" for t, p in sorted(owned)) or "nothing")
        self.owned = owned
        self._cancel_takeover()
        self._takeover = asyncio.create_task(self._take_over(owned, generation))

    async def released(self, *, lost: bool) -> None:
        """Commit what is done (unless the partitions are lost), and stop."""
        self._cancel_takeover()
        gone = self.owned
        async with self._changing:  # a takeover that follows waits until all is given back
            committed, was_running = False, self.running
            if was_running and not lost:
                try:
                    committed = await asyncio.wait_for(self._settle(), SETTLE_DEADLINE)
                except Exception as exc:
                    logger.warning("the commit on revocation failed: %r", exc)
            self.running = False
            await self._discard()
            if was_running and not committed:
                logger.warning("partitions %s; rolling back", "lost" if lost else "revoked")
                await self.barrier.abort("rebalance")
            if self.owned is gone:
                self.owned = set()
            self.barrier.committed = {}
            await self._withdraw(gone)
        telemetry.ASSIGNED.set(0)
        telemetry.LAG.clear()

    def _cancel_takeover(self) -> None:
        if self._takeover is not None:
            self._takeover.cancel()
            self._takeover = None

    async def _take_over(self, owned: set[TP], generation: int) -> None:
        """Restore what is new, forget what is gone, then read."""
        async with self._changing:
            pass
        while generation == self.reader.generation:
            try:
                await self._announce(owned)
                offsets = await self.lane.run(self._restored, owned, generation)
            except Cancelled:
                return
            except Exception:
                logger.exception("restore failed; trying again")
                await asyncio.sleep(1)
                continue
            self._resume()
            self.barrier.committed = dict(offsets)
            if await self.reader.read_from(offsets, generation):
                self.running = True
                self.taken_over.set()
                logger.info("restored; reading")
            return

    def _restored(self, owned: set[TP], generation: int) -> dict[TP, int]:
        """In the restore lane: bring the tasks to the committed offsets."""
        tasks, stamps = self.engine.tasks, self.barrier.stamps
        places = [(tp.topic, tp.partition) for tp in owned]
        commits = self.restorer.committed(self.reader.kafka, places)
        stamped = {TP(*place): commit.stamp for place, commit in commits.items()}
        # a partition without any commit is read from its start, not from what we hold of it
        kept = {tp for tp in owned if stamped[tp] and stamps.get(tp) == stamped[tp]}
        for task in tasks:
            topic = self.engine.qualified(task.topic)
            gone = {tp.partition for tp in set(stamps) - kept if tp.topic == topic}
            if gone:
                task.revoke(gone)
        self.barrier.stamps = {tp: stamps[tp] for tp in kept}
        fresh = {place: commit for place, commit in commits.items() if TP(*place) not in kept}
        try:
            found = self.restorer.run(
                self.engine, fresh, lambda: generation != self.reader.generation
            )
        except BaseException:
            for task in tasks:  # half restored is not restored
                topic = self.engine.qualified(task.topic)
                task.revoke({p for t, p in fresh if t == topic})
            raise
        for task in tasks:
            task.commit()
        self.barrier.stamps |= {TP(*place): commit.stamp for place, commit in fresh.items()}
        offsets = {TP(*place): offset for place, offset in found.items()}
        return offsets | {tp: commits[tp.topic, tp.partition].offset for tp in kept}

    def status(self) -> dict[str, Any]:
        """Ownership, and the progress of restoring."""
        checkpointing = self.barrier.checkpointing
        return {
            "ready": self.running,
            "assigned": sorted(f"{tp.topic}/{tp.partition}" for tp in self.owned),
            "restore": self.restorer.progress.status(),
            **(checkpointing.status() if checkpointing else {}),
        }
