"""Absence: no value for longer than this series is ever silent.

Upstream: times of points with a value; `now`, which is event time (a tick, an empty cell, or the
next point). Downstream: `flag.py`.

Invariants: the usual step is the median of the last intervals, so the limit follows a series that
is irregular; a gap of the length of earlier ones (twice the longest of the last 20) is no news; the
first value after the gap clears the flag.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from statistics import median

from streamgauge.streams.anomalies.flag import Flag

STEPS = 5
RED_STEPS = 60
INTERVALS = 31
GAPS = 20


@dataclass
class Absence:
    """The last time a value came, and how far apart values are."""

    last: float | None = None
    intervals: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    flag: Flag | None = None

    @property
    def step(self) -> float | None:
        """The usual time between points, once it is known."""
        return median(self.intervals) if len(self.intervals) >= 12 else None

    def wait(self, now: float) -> list[Flag]:
        """No value until `now`: a flag opened or worse?"""
        step = self.step
        if self.last is None or step is None:
            return []
        silent = (now - self.last) / step
        limit = max(STEPS, 2 * max(self.gaps, default=0.0) / step)
        if silent <= limit:
            return []
        red = silent > max(RED_STEPS, limit)
        if self.flag is not None and (self.flag.severity == "red" or not red):
            return []
        self.flag = Flag(
            detector="missing",
            severity="red" if red else "yellow",
            start=self.last + step,
            expected=step,
            observed=now - self.last,
            score=silent / limit,
        )
        return [self.flag]

    def came(self, now: float) -> list[Flag]:
        """A value at `now`: what it opens (the gap was not waited for) and clears."""
        changes = self.wait(now)
        if self.flag is not None:
            changes.append(replace(self.flag, end=now))
            self.flag = None
        if self.last is not None:
            interval, step = now - self.last, self.step
            if step is not None and interval > 1.5 * step:
                self.gaps.append(interval)
                del self.gaps[:-GAPS]
            self.intervals.append(interval)
            del self.intervals[:-INTERVALS]
        self.last = now
        return changes
