"""Whose record is behind, and what of it cannot wait for a turn.

Upstream: `feed.py`, as events and sessions change profiles. Invariant: of a user the earliest
offset, time and day count, in whatever order they come.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from streamgauge.streams.branch import Horizon
from streamgauge.streams.metrics.keys import firsts, ordering
from streamgauge.streams.metrics.runs import Run, concatenated

Array = np.ndarray

PENDING: tuple[type, ...] = (np.int32, np.int64, np.int64, np.int64)
"""By user: partition, first offset, earliest time, first day that changed."""
NOTHING = Run(key=np.zeros(0, np.uint64), columns=tuple(np.zeros(0, d) for d in PENDING))
AT_ONCE = -1
"""In place of the offset of what is urgent in any case."""
_NEVER = int(np.iinfo(np.int64).max)


@dataclass(frozen=True, kw_only=True)
class Pending:
    """All whose record is behind, never changed in place."""

    runs: tuple[Run, ...] = ()
    least: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """By partition: the first offset and the earliest time of all. It tells in each commit that
    nothing is urgent, without a look at everybody who has waited since a turn."""

    def __len__(self) -> int:
        return len(self.runs)

    def with_run(self, run: Run) -> Pending:
        if not len(run.key):
            return self
        partition, offset, time, _ = run.columns
        least, numbers = dict(self.least), int(partition.max()) + 1
        first, earliest = np.full((2, numbers), _NEVER)
        np.minimum.at(first, partition, offset)
        np.minimum.at(earliest, partition, time)
        for number in np.bincount(partition).nonzero()[0].tolist():
            before = least.get(number, (_NEVER, _NEVER))
            now = int(first[number]), int(earliest[number])
            least[number] = min(before[0], now[0]), min(before[1], now[1])
        return Pending(runs=(*self.runs, run), least=least)

    def has_urgent(self, horizons: Mapping[int, Horizon]) -> bool:
        """Whether `urgent_of` finds any."""
        for number, (offset, time) in self.least.items():
            horizon = horizons.get(number)
            if offset == AT_ONCE or (
                horizon is not None and (offset < horizon.offset or time <= horizon.timestamp)
            ):
                return True
        return False


def urgent_of(pending: Run, horizons: Mapping[int, Horizon]) -> Array:
    """What a replay would not bring again."""
    partition, offset, time, _ = pending.columns
    urgent: Array = offset == AT_ONCE
    for number, horizon in horizons.items():
        old = (offset < horizon.offset) | (time <= horizon.timestamp)
        urgent |= (partition == number) & old
    return urgent


def joined(pending: Iterable[Run]) -> Run:
    """One row a user."""
    runs = [NOTHING, *pending]
    if len(runs) == 2:
        return runs[1]
    run = concatenated(runs)
    run = run.take(ordering(run.key))
    starts = firsts(run.key).nonzero()[0]
    if not len(starts):
        return NOTHING
    return Run(
        key=run.key[starts],
        columns=tuple(np.minimum.reduceat(column, starts) for column in run.columns),
    )
