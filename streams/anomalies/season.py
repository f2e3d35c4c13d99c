"""A season: what was usual at this time of the day, or of the week.

Upstream: points in order of time. Downstream: `forecast.py`.

    day 1   ...|  b-1 |  b  | b+1 |...      the median of these cells, over the days kept,
    day 2   ...|  b-1 |  b  | b+1 |...      is what is expected in b: one odd day, or a step
    day 3   ...|  b-1 |  b  | b+1 |...      of the daily curve beside b, does not move it
    today              ^

Invariants: a cell is the mean of its points and is used only once it is over, so nothing of the
present is in its own expectation; memory is `cells * kept` numbers, whatever the rate of points.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from statistics import median


@dataclass
class Season:
    """Means by cell of a period, of the last `kept` periods."""

    period: float
    cell: float
    kept: int
    cells: list[list[float]] = field(default_factory=list)
    open: int = -1
    total: float = 0.0
    points: int = 0

    def __post_init__(self) -> None:
        if not self.cells:
            self.cells = [[] for _ in range(max(1, round(self.period / self.cell)))]

    def at(self, timestamp: float) -> int:
        """The cell of a time."""
        return int(timestamp % self.period / self.period * len(self.cells))

    def expected(self, timestamp: float) -> float | None:
        """What was usual at this time; None in the first period."""
        at, count = self.at(timestamp), len(self.cells)
        own = self.cells[at]
        if not own:
            return None
        if count < 3:
            return median(own)
        return median(self.cells[at - 1] + own + self.cells[(at + 1) % count])

    def add(self, timestamp: float, value: float) -> None:
        """A point, after it was judged."""
        at = self.at(timestamp)
        if at != self.open:
            if self.points:
                row = self.cells[self.open]
                row.append(self.total / self.points)
                del row[: -self.kept]
            self.open, self.total, self.points = at, 0.0, 0
        self.total += value
        self.points += 1
