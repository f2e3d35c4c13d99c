"""The scale: how far from its forecast a value usually is, at this hour.

Upstream: residuals of `forecast.py`. Downstream: `evidence.py`.

A mean of absolute residuals that forgets by halves in a day, and one for each hour of the day that
forgets in four, mixed by how much each hour has seen: counts scatter by day and are still at night.

Invariants: a residual counts for at most four times the scale, so an outlier cannot hide the next;
the scale has a floor by the size of the values, so a constant or quantised series is not infinitely
sure of itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field

DAY = 86_400.0
FLOOR = 1e-3
"""Of the values' mean size."""
TRUSTED = 24
"""Residuals until an hour of the day counts as much as all hours together."""


@dataclass
class Scale:
    """Mean absolute residual, over all and by hour of the day."""

    step: float
    seen: int = 0
    overall: float = 0.0
    size: float = 0.0
    hours: list[float] = field(default_factory=lambda: [0.0] * 24)
    counts: list[int] = field(default_factory=lambda: [0] * 24)

    def at(self, timestamp: float) -> float:
        """The scale at this time; above 0."""
        hour = int(timestamp % DAY // 3600)
        known = self.counts[hour]
        mixed = (TRUSTED * self.overall + known * self.hours[hour]) / (TRUSTED + known)
        return max(mixed, FLOOR * self.size, 1e-9)

    def add(self, timestamp: float, residual: float, value: float) -> None:
        """A residual, after it was judged."""
        hour, size = int(timestamp % DAY // 3600), abs(residual)
        slow = 1 - 0.5 ** (self.step / DAY)
        self.seen += 1
        if self.seen > 30:
            size = min(size, 4 * self.at(timestamp))
        rate = max(slow, 1 / self.seen)
        self.overall += rate * (size - self.overall)
        self.size += rate * (abs(value) - self.size)
        count = self.counts[hour] = min(self.counts[hour] + 1, 200)
        weekly = 1 - 0.5 ** min(1.0, self.step / (4 * 3600))
        self.hours[hour] += max(weekly, 1 / count) * (size - self.hours[hour])
