"""Quantiles of users' values in two variants: how far apart, for one look and for every look.

Upstream: `counts.py`, or the values of a file. Downstream: `analysis.py`.

    users            ▂▅█▆▃▂▁        the quantile is X(k), k = ceil(share · n)
    not ruled out      [---|---]    by how many users lie below and above: no density, no moments

For one look: half the distance of the order statistics at n·share ± z·√(n·share·(1 - share)) is z
standard errors (Woodruff 1952). For every look: by the true quantile the number of users below
it is a Bernoulli(share) walk, and a Beta mixture of likelihood ratios against it is a martingale
that begins at 1, so by Ville's inequality it ever reaches 1/alpha in at most alpha of the
experiments (Robbins 1970; Howard and Ramdas 2022, "Sequential estimation of quantiles", Bernoulli
10.3150/21-BEJ1388, sections 3 and 5). Of two variants the martingales are multiplied: what pairs
of quantiles are left gives the interval of their difference.

Invariants: nothing is assumed of the distribution, ties included (users at the value itself may
count on either side); values that are known by bucket only may be anywhere in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamgauge.streams.experiments import sequential
from streamgauge.streams.experiments.distributions import normal_quantile

Array = NDArray[np.float64]
Interval = tuple[float, float] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Distribution:
    """Values of users, ascending: each bucket's least and greatest, and how many have it."""

    low: Array
    high: Array
    users: NDArray[np.int64]

    @classmethod
    def of(cls, values: Array) -> Distribution:
        """Of users, one element each."""
        found, users = np.unique(values, return_counts=True)
        return cls(low=found, high=found, users=users)

    @classmethod
    def none(cls) -> Distribution:
        return cls.of(np.zeros(0))

    @property
    def count(self) -> int:
        return int(self.users.sum())

    def at_rank(self, rank: int) -> float:
        """The value of the user of this rank, from 1; spread evenly within a bucket."""
        passed = np.cumsum(self.users)
        at = int(np.searchsorted(passed, rank))
        within = (rank - (passed[at] - self.users[at]) - 0.5) / self.users[at]
        return float(self.low[at] + (self.high[at] - self.low[at]) * within)

    def quantile(self, share: float) -> float | None:
        """The least value that at least this share of users do not exceed."""
        rank = math.ceil(round(share * self.count, 6))
        return self.at_rank(min(max(rank, 1), self.count)) if self.count else None

    def error(self, share: float, alpha: float) -> float | None:
        """The standard error of the quantile; None with too few users to tell."""
        n, z = self.count, normal_quantile(alpha / 2)
        spread = math.sqrt(n * share * (1 - share))
        low, high = math.floor(n * share - z * spread), math.ceil(n * share + z * spread)
        if low < 1 or high > n:
            return None
        return (self.at_rank(high) - self.at_rank(low)) * spread / (high - low)


@dataclass(frozen=True, kw_only=True)
class Apart:
    """What every look allows to say of the difference, and of it relative to the control."""

    absolute: Interval
    relative: Interval
    p: float


def apart(
    control: Distribution, treatment: Distribution, share: float, alpha: float, tuning_n: float
) -> Apart:
    """Of the treatment's quantile from the control's, valid at every look."""
    weight = tuning_n / 2 / sequential.rho(alpha, 1.0) ** 2  # narrowest at half of N* in each
    base, other = (_Cells.of(one, share, weight) for one in (control, treatment))
    p = math.exp(-max(0.0, min(_least_common(base, other), 700.0)))
    limit = -math.log(alpha)
    first, last = other.within(limit - base.doubt)
    kept = first <= last
    if not kept.any():
        return Apart(absolute=None, relative=None, p=p)
    low, high = other.low[first[kept]], other.high[last[kept]]
    of_low, of_high = base.low[kept], base.high[kept]
    absolute = (float(np.min(low - of_high)), float(np.max(high - of_low)))
    relative: Interval = None
    if np.isfinite(absolute).all() and (of_low.min() > 0 or of_high.max() < 0):
        ends = [(at - of) / abs(of) for at in (low, high) for of in (of_low, of_high)]
        if np.isfinite(ends).all():
            relative = (float(np.min(ends)), float(np.max(ends)))
    return Apart(absolute=absolute if np.isfinite(absolute).all() else None, relative=relative, p=p)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Cells:
    """Where the quantile may be, and what speaks against it there: log of the martingale."""

    low: Array
    high: Array
    doubt: Array
    below: Array
    """The doubt of the gap before each cell, and of the one after the last."""

    @staticmethod
    def of(given: Distribution, share: float, weight: float) -> _Cells:
        """Tails first and last: beyond all values."""
        passed = np.r_[0, np.cumsum(given.users)]
        n = float(passed[-1])
        against = _mixture(passed.astype(float), n, share, weight)
        # In a bucket, users may count on either side: the number that speaks against it least.
        nearest = np.clip(share * n, passed[:-1], passed[1:])
        within = _mixture(nearest, n, share, weight)
        return _Cells(
            low=np.r_[-math.inf, given.low, given.high[-1:] if len(given.high) else -math.inf],
            high=np.r_[given.low[:1] if len(given.low) else math.inf, given.high, math.inf],
            doubt=np.r_[against[0], within, against[-1]],
            below=against,
        )

    def within(self, limit: Array) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For each limit, the first and the last cell with less doubt; none: last < first."""
        lowest = int(np.argmin(self.doubt))
        falling, rising = self.doubt[: lowest + 1][::-1], self.doubt[lowest:]
        first = lowest + 1 - np.searchsorted(np.maximum.accumulate(falling), limit)
        last = lowest - 1 + np.searchsorted(np.maximum.accumulate(rising), limit)
        return first, last

    def at(self, values: Array) -> Array:
        """The doubt at each value."""
        low, high = self.low[1:-1], self.high[1:-1]
        if not len(low):
            return np.zeros(len(values))
        place = np.searchsorted(high, values)
        inside = np.minimum(place, len(low) - 1)
        here = (place < len(low)) & (low[inside] <= values)
        return np.where(here, self.doubt[1 + inside], self.below[place])


def _least_common(one: _Cells, other: _Cells) -> float:
    """The least doubt in both that both have the same quantile."""
    ends = np.unique(np.r_[one.low, one.high, other.low, other.high])
    ends = ends[np.isfinite(ends)]
    if not len(ends):
        return 0.0
    values = np.r_[ends, (ends[:-1] + ends[1:]) / 2, ends[0] - 1, ends[-1] + 1]
    return float(np.min(one.at(values) + other.at(values)))


def _mixture(below: Array, n: float, share: float, weight: float) -> Array:
    """log of the Beta mixture of likelihood ratios, with so many of n users below."""
    a, b = share * weight, (1 - share) * weight
    return (
        _log_beta(a + below, b + n - below)
        - _log_beta(np.array([a]), np.array([b]))
        - below * math.log(share)
        - (n - below) * math.log1p(-share)
    )


def _log_beta(a: Array, b: Array) -> Array:
    return _log_gamma(a) + _log_gamma(b) - _log_gamma(a + b)


def _log_gamma(x: Any) -> Array:
    """Stirling's series, from 10 on exact to the last digits."""
    shifted = x + 10.0
    inverse = 1 / shifted**2
    series = (1 / 12 - inverse * (1 / 360 - inverse * (1 / 1260 - inverse / 1680))) / shifted
    factor = np.ones_like(x)
    for step in range(10):
        factor = factor * (x + step)
    value: Array = (shifted - 0.5) * np.log(shifted) - shifted + series
    return value + 0.5 * math.log(2 * math.pi) - np.log(factor)
