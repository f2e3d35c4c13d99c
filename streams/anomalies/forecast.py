"""The forecast: what the next value should be, twice, from the past alone.

Upstream: points in order of time. Downstream: `evidence.py`.

Six naive predictors run side by side; who was closest over about the last day speaks.
- *near*: the next point, following the level (last value, median of the last nine, this time of
  day with or without the current departure from it, this time of the week);
- *usual*: the level that should hold by the day's or week's rhythm, or by the last day's median;
  it does not follow at once, so that a shift stays visible.

Invariants: a season speaks only once it has proved closer than what knows no season, so a series
without rhythm pays nothing for it; a lasting shift is absorbed as the predictors learn it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from statistics import median

from streamgauge.streams.anomalies.season import Season

DAY = 86_400.0
WEEK = 7 * DAY
LONG = 500
"""Points in the long median, at most a day's."""
NEAR = ("last", "recent", "day", "day_now", "week")
USUAL = ("long", "day", "week")
PROVEN = 24
"""Points before a predictor's error counts."""


@dataclass
class Forecast:
    """All predictors' memory, and the mean error of each."""

    step: float
    day: Season
    week: Season
    recent: list[float] = field(default_factory=list)
    long: list[float] = field(default_factory=list)
    ordered: list[float] = field(default_factory=list)
    """`long`, sorted."""
    departure: float = 0.0
    """From the day's rhythm, lately."""
    errors: dict[str, float] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def begun(step: float) -> Forecast:
        """For a series of about one point every `step` seconds."""
        return Forecast(
            step=step,
            day=Season(DAY, max(step, 300.0), 8),
            week=Season(WEEK, max(step, 1800.0), 4),
        )

    def predictions(self, timestamp: float) -> dict[str, float]:
        """What each predictor says; nothing at the first point."""
        if not self.recent:
            return {}
        said = {
            "last": self.recent[-1],
            "recent": median(self.recent),
            "long": self.ordered[len(self.ordered) // 2],
        }
        day, week = self.day.expected(timestamp), self.week.expected(timestamp)
        if day is not None:
            said["day"] = day
            said["day_now"] = day + self.departure
        if week is not None:
            said["week"] = week
        return said

    def best(self, names: tuple[str, ...], said: dict[str, float]) -> float:
        """What the closest of these says."""
        proven = [name for name in names if self.counts.get(name, 0) >= PROVEN and name in said]
        if not proven:
            return said[names[0]]
        return said[min(proven, key=self.errors.__getitem__)]

    def add(self, timestamp: float, value: float, said: dict[str, float]) -> None:
        """The value came: who was how far off?"""
        slow = 1 - 0.5 ** (self.step / DAY)
        for name, prediction in said.items():
            error = abs(value - prediction)
            count = self.counts[name] = self.counts.get(name, 0) + 1
            before = self.errors.get(name, 0.0)
            self.errors[name] = before + max(slow, 1 / count) * (error - before)
        if "day" in said:
            self.departure += 0.2 * (value - said["day"] - self.departure)
        self.recent.append(value)
        del self.recent[:-9]
        if len(self.long) >= max(9, min(LONG, int(DAY / self.step))):
            del self.ordered[bisect_left(self.ordered, self.long.pop(0))]
        self.long.append(value)
        insort(self.ordered, value)
        self.day.add(timestamp, value)
        self.week.add(timestamp, value)
