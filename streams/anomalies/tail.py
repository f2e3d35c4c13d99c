"""The tail: how rare a figure is in this very series.

Upstream: `evidence.py`. Downstream: `series.py`.

The maxima of blocks of 12 points are kept (500, then the oldest go). Above their median they
follow, whatever the distribution of the points, a generalised Pareto law (extreme value theory);
it is fitted by probability-weighted moments, which no single outlier can carry off. So a threshold
is a rate of false alarms, not a number of sigmas, and neighbours that depend on each other are
counted once a block. Nor is anything rarer than its like was: a figure is at least as probable as
the share of maxima that came to 0.8 of it, so spikes that a series has now and then are no news.

Invariants: the shape lies in [0, 0.6] (the tail is never thought to end, so a record alone is no
proof) and leans to 0.2 while there is little to fit; 1/n is added to it, which makes the
probability exact for n exponential excesses (the predictive law) instead of too small. Before 8
blocks nothing is rare.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field

BLOCK = 12
KEPT = 500
FEWEST = 8
SHAPES = (0.0, 0.6)
LEANING = 0.2
ALIKE = 0.8
WEIGHT = 20
"""Excesses that weigh as much as the leaning."""


@dataclass
class Tail:
    """Block maxima, oldest first, and the law fitted to them."""

    maxima: list[float] = field(default_factory=list)
    ordered: list[float] = field(default_factory=list)
    highest: float = 0.0
    filled: int = 0
    location: float = 0.0
    spread: float = 0.0
    shape: float = 0.0

    def chance(self, figure: float) -> float:
        """The probability of a point so high, by this series' past."""
        if self.spread <= 0:
            return 1.0
        beyond = (figure - self.location) / self.spread
        if beyond <= 0:
            return 0.5 / BLOCK
        count = len(self.ordered)
        alike = (count - bisect_left(self.ordered, ALIKE * figure)) / (count + 1)
        fitted = 0.5 * (1 + self.shape * beyond) ** (-1 / self.shape)
        return min(max(fitted, alike), 0.5) / BLOCK

    def add(self, figure: float) -> None:
        """A figure, after it was judged."""
        self.highest = max(self.highest, figure)
        self.filled += 1
        if self.filled < BLOCK:
            return
        if len(self.maxima) >= KEPT:
            del self.ordered[bisect_left(self.ordered, self.maxima.pop(0))]
        self.maxima.append(self.highest)
        insort(self.ordered, self.highest)
        self.highest, self.filled = 0.0, 0
        if len(self.maxima) >= FEWEST:
            self._fit()

    def _fit(self) -> None:
        count = len(self.ordered)
        self.location = self.ordered[count // 2]
        excesses = [one - self.location for one in self.ordered[(count + 1) // 2 :]]
        n = len(excesses)
        mean = sum(excesses) / n
        weighted = sum(one * (n - 1 - at) for at, one in enumerate(excesses)) / (n * (n - 1))
        difference = mean - 2 * weighted
        shape = 2 - mean / difference if difference > 0 else SHAPES[0]
        shape = (n * shape + WEIGHT * LEANING) / (n + WEIGHT)
        shape = min(max(shape, SHAPES[0]), SHAPES[1])
        # A floor, for series whose figures hardly differ.
        self.spread = max(mean * (1 - shape), 1e-3 + 0.02 * self.location)
        self.shape = shape + 1 / n
