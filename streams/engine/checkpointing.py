"""Writes checkpoints of what has been committed, now and then, beside the work.

Upstream: the barrier, which hands over each commit: references to immutable states, so it costs
nothing. Downstream: files (`checkpoint.py`), written by a thread of its own at most every
`interval` seconds, and at a stop. Where state is large, less often (`pause`).

Invariants: a commit is handed over after the group has it and before the next one writes anything;
the changelogs' ends that go with it were asked before it; no failure here reaches the worker.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from faust.types import TP

from streamgauge.schemas.topics import qualified
from streamgauge.streams.engine.engine import Engine
from streamgauge.streams.engine.resumption import Known, Resumption
from streamgauge.streams.engine.task import Task

logger = logging.getLogger(__name__)

STOP_TIMEOUT = 10.0
SHARE, LONGEST = 0.05, 4
"""Of one core, for checkpoints; and the longest pause for it, in intervals."""


def pause(interval: float, taken: float) -> float:
    """Seconds until the next checkpoints, when the last ones took this much CPU."""
    return min(max(interval, taken / SHARE), LONGEST * interval)


@dataclass(frozen=True, kw_only=True)
class Capture:
    """The tasks' states at one commit."""

    offsets: Mapping[TP, int]
    known: Known
    states: list[tuple[Task, Callable[[int], bytes]]]

    @staticmethod
    def of(engine: Engine, offsets: Mapping[TP, int], resumption: Resumption) -> Capture:
        """To be taken between two commits."""
        states = [(t, state) for t in engine.tasks if (state := t.snapshot()) is not None]
        return Capture(offsets=dict(offsets), known=resumption.known, states=states)

    def write(self, engine: Engine, resumption: Resumption) -> int:
        """Put it on disk; gives the number of files."""
        written = 0
        for task, snapshot in self.states:
            changelogs = [qualified(engine.namespace, name) for name in task.changelogs]
            for place, offset in self.offsets.items():
                if place[0] != engine.qualified(task.topic):
                    continue
                head = resumption.head(task, place, offset, changelogs, self.known)
                if head is not None:
                    resumption.checkpoints.write(head, snapshot(place[1]))
                    written += 1
        return written


class Checkpointing:
    """The thread of one worker."""

    def __init__(self, engine: Engine, resumption: Resumption, interval: float) -> None:
        self._engine, self._resumption, self._interval = engine, resumption, interval
        self._latest: Capture | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
        self._written_at: float | None = None

    @staticmethod
    def of(engine: Engine, resumption: Resumption | None) -> Checkpointing | None:
        """None where there are no checkpoints."""
        if resumption is None:
            return None
        return Checkpointing(engine, resumption, engine.checkpoint_interval)

    def status(self) -> dict[str, Any]:
        """For `/ready` and `streamgauge status`."""
        at = self._written_at
        return {"checkpoint_age": None if at is None else round(time.monotonic() - at, 1)}

    def committed(self, offsets: Mapping[TP, int]) -> None:
        """The group has these offsets, and the tasks' states are those of them."""
        self._latest = Capture.of(self._engine, offsets, self._resumption)
        if not self._thread.is_alive() and not self._stop.is_set():
            self._thread.start()

    def close(self) -> None:
        """Write the last commit's."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(STOP_TIMEOUT)

    def _run(self) -> None:
        self._resumption.checkpoints.sweep()
        done: Mapping[TP, int] | None = None  # the offsets alone: states are large
        taken = 0.0
        while True:
            stopped = self._stop.wait(pause(self._interval, taken))
            latest = self._latest
            try:
                if latest is not None and latest.offsets is not done:
                    started, before = time.monotonic(), time.thread_time()
                    files = latest.write(self._engine, self._resumption)
                    done, self._written_at = latest.offsets, time.monotonic()
                    taken = time.thread_time() - before
                    logger.info("%d checkpoints in %.2f s", files, self._written_at - started)
                if not stopped:
                    self._resumption.refresh()
            except BaseException as exc:  # polars raises PanicException, a BaseException
                logger.warning("no checkpoints this time: %r", exc)
            latest = None  # while this waits, a state that others have left must not stay
            if stopped:
                return
