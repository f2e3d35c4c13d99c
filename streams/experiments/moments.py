"""The sufficient statistics of a variant: how many users, their means and co-moments.

Upstream: `users.py`, or a stream's partial results. Downstream: `effect.py`.

Count, sums and sums of products say the same, but lose everything where the mean is large
against the spread (1e9 ± 1 leaves no digit of a variance in a float). So the sums of products are
kept about the mean, and two sets are merged by the shift of their means (Chan, Golub and LeVeque
1979). Invariants: merging is associative and commutative up to rounding; a constant variable has
a co-moment of exactly 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

OUTCOME, DENOMINATOR, COVARIATE, COVARIATE_DENOMINATOR = range(4)
VARIABLES = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """Of outcome, denominator, covariate and the covariate's denominator, in that order.

    Without a denominator it is 1 for every user; without a covariate that is 0.
    """

    count: int
    mean: Array
    comoment: Array  # sums of (a - mean a)(b - mean b)

    @classmethod
    def none(cls) -> Moments:
        """Of no users."""
        return cls(count=0, mean=np.zeros(VARIABLES), comoment=np.zeros((VARIABLES, VARIABLES)))

    @classmethod
    def of(
        cls,
        outcome: Array,
        denominator: Array | None = None,
        covariate: Array | None = None,
        covariate_denominator: Array | None = None,
    ) -> Moments:
        """Of users, one element each."""
        if not len(outcome):
            return cls.none()
        given: Sequence[Array | None]
        given = (outcome, denominator, covariate, covariate_denominator)
        absent = (0.0, 1.0, 0.0, 1.0)
        mean = np.array(absent)
        deviations = np.zeros((VARIABLES, len(outcome)))
        with np.errstate(over="ignore", invalid="ignore"):  # told as a note by the analysis
            for at, values in enumerate(given):
                if values is None:
                    continue
                # By way of the first value, so that a constant deviates by exactly 0.
                shifted = values - values[0]
                middle = shifted.mean()
                mean[at] = values[0] + middle
                deviations[at] = shifted - middle
            comoment = deviations @ deviations.T
        return cls(count=len(outcome), mean=mean, comoment=comoment)

    def __add__(self, other: Moments) -> Moments:
        if not self.count or not other.count:
            return self if self.count else other
        count = self.count + other.count
        shift = other.mean - self.mean
        with np.errstate(over="ignore", invalid="ignore"):
            between = np.outer(shift, shift) * (self.count * (other.count / count))
            return Moments(
                count=count,
                mean=self.mean + shift * (other.count / count),
                comoment=self.comoment + other.comoment + between,
            )

    def covariance(self, *, of_sample: bool = True) -> Array:
        """The covariance matrix: divided by n - 1, or by n, as for proportions."""
        return self.comoment / (self.count - of_sample)
