"""Sums over users, exact: how many, their values, and the products of these.

Upstream: `exposures.py`, with the values of users before and after a batch. Downstream: rows of
`experiment-partials`, and `results.py`, which makes moments of them.

    values of a user, by metric:  outcome (, denominator) (, covariate (, its denominator))

Invariants: everything is an integer of any size, so adding and taking away in any order gives the
same bits; real values are scaled as in metrics.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from streamgauge.schemas.experiment_definition import ExperimentDefinition
from streamgauge.schemas.experiments import selections
from streamgauge.schemas.metrics import Selection
from streamgauge.streams.experiments.counts import Counts
from streamgauge.streams.experiments.moments import VARIABLES, Moments

Array = np.ndarray

ABSENT = (0.0, 1.0, 0.0, 1.0)
"""What stands for a variable that a metric has not, in the order of `moments.py`."""


@dataclass(frozen=True, kw_only=True)
class Tally:
    """Of some users."""

    users: int
    sums: Array
    """Of each value; Python's integers."""
    products: Array
    """Of each pair of values."""
    counts: Mapping[int, Counts] = field(default_factory=dict)
    """By place: of the values whose quantiles are asked for."""

    @staticmethod
    def of(values: Array, counted: Sequence[int] = ()) -> Tally:
        """A line for each user; `counted`: places of which quantiles are asked for."""
        return Tally(
            users=len(values),
            sums=_summed(values),
            products=_multiplied(values),
            counts={place: Counts.of(values[:, place]) for place in counted},
        )

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            users=self.users + other.users,
            sums=self.sums + other.sums,
            products=self.products + other.products,
            counts={place: of + other.counts[place] for place, of in self.counts.items()},
        )

    def __sub__(self, other: Tally) -> Tally:
        return Tally(
            users=self.users - other.users,
            sums=self.sums - other.sums,
            products=self.products - other.products,
            counts={place: of - other.counts[place] for place, of in self.counts.items()},
        )

    def only(self, places: Sequence[int]) -> Tally:
        """Of these values alone."""
        return Tally(
            users=self.users,
            sums=self.sums[list(places)],
            products=self.products[np.ix_(places, places)],
            counts={at: self.counts[p] for at, p in enumerate(places) if p in self.counts},
        )

    def moments(self, variables: Sequence[int], scales: Sequence[int]) -> Moments:
        """`variables`: which one of `moments.py` each value is; each has a scale."""
        if not self.users:
            return Moments.none()
        mean, comoment = np.array(ABSENT), np.zeros((VARIABLES, VARIABLES))
        users = self.users
        for at, (place, scale) in enumerate(zip(variables, scales, strict=True)):
            mean[place] = self.sums[at] / (users * scale)
            for beside, (other, by) in enumerate(zip(variables, scales, strict=True)):
                shared = users * self.products[at, beside] - self.sums[at] * self.sums[beside]
                comoment[place, other] = shared / (users * scale * by)
        return Moments(count=users, mean=mean, comoment=comoment)


def _summed(values: Array) -> Array:
    if _largest(values) * len(values) < 2**62:
        return values.sum(0).astype(object)
    return values.astype(object).sum(0)


def _multiplied(values: Array) -> Array:
    """By the quickest arithmetic that is exact."""
    bound = _largest(values) ** 2 * len(values)
    if bound < 2**53:
        real = values.astype(np.float64)
        return (real.T @ real).astype(np.int64).astype(object)
    if bound < 2**62:
        return (values.T @ values).astype(object)
    exact = values.astype(object)
    return exact.T @ exact


def _largest(values: Array) -> int:
    return max(int(values.max()), -int(values.min())) if values.size else 0


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where a user's sums become values: one line of sums is all outcomes, then all covariates."""

    selections: tuple[Selection, ...]
    columns: tuple[int, ...]
    """Which sum each value is."""
    is_proportion: Array
    """Whether a value is 1 where the sum is not 0."""
    metrics: tuple[tuple[str, tuple[int, ...], tuple[int, ...], tuple[int, ...]], ...]
    """Of each metric: its name, places of its values, which variables, scales."""
    counted: tuple[int, ...]
    """Places of values whose quantiles are asked for."""

    @staticmethod
    def of(definition: ExperimentDefinition) -> Layout:
        found = dict.fromkeys(s for metric in definition.metrics for s in selections(metric))
        place = {selection: number for number, selection in enumerate(found)}
        columns: list[int] = []
        proportions: list[bool] = []
        metrics = []
        counted: list[int] = []
        for metric in definition.metrics:
            is_proportion = metric.aggregate == "proportion"
            places, variables, scales = [], [], []
            is_quantile = metric.aggregate == "quantile"
            if is_quantile:
                counted.append(len(columns))
            for covariate in (0, 1) if definition.lookback_days and not is_quantile else (0,):
                for below, selection in enumerate(selections(metric)):
                    places.append(len(columns))
                    variables.append(2 * covariate + below)
                    scales.append(1 if is_proportion else selection.scale)
                    columns.append(place[selection] + covariate * len(place))
                    proportions.append(is_proportion)
            metrics.append((metric.name, tuple(places), tuple(variables), tuple(scales)))
        return Layout(
            selections=tuple(found),
            columns=tuple(columns),
            is_proportion=np.array(proportions),
            metrics=tuple(metrics),
            counted=tuple(counted),
        )

    @property
    def width(self) -> int:
        """Sums of a user."""
        return 2 * len(self.selections)

    def values(self, sums: Array) -> Array:
        """Of users, a line each."""
        values = sums[:, self.columns]
        return np.where(self.is_proportion, values != 0, values).astype(np.int64)

    def tally(self, sums: Array) -> Tally:
        return Tally.of(self.values(sums), self.counted)

    @property
    def nobody(self) -> Tally:
        """Of no users."""
        return self.tally(np.zeros((0, self.width), np.int64))
