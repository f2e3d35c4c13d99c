"""From parts to metrics: the values of a row, as `MetricUpdate` has them.

Upstream: `merge.py`, with the parts of whole rows. Invariant: a metric without observations is
left out of its row, and what is left out depends on the parts alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from streamgauge.schemas.metrics import Grain
from streamgauge.streams.metrics.keys import firsts
from streamgauge.streams.metrics.parts import (
    PART_BITS,
    SUM,
    Entries,
    Part,
    bucket_of,
    bucket_values,
    grain_parts,
    metric_parts,
    part_of,
)

Array = np.ndarray


class Values(NamedTuple):
    """Values of many rows, sorted by row."""

    row: Array
    series: Array
    """Their numbers; `Results.names` has the names."""
    numerator: Array
    denominator: Array
    users: Array
    """Distinct users of each row, -1 where its grain does not count them."""


class Results:
    """Evaluates rows of some grains together.

    Each grain has a stretch of the series: first those of two parts, then the quantiles. All rows
    are lines of one table of parts, from which each row's series are picked.
    """

    def __init__(self, grains: Sequence[Grain]) -> None:
        parts = [grain_parts(grain) for grain in grains]
        shape = len(grains), max(map(len, parts), default=0)
        self._nothing = np.zeros(shape, np.int64)
        self._is_bucket = np.zeros(shape, bool)
        self._users = np.full(len(grains), -1)
        """The part that has a row's distinct users."""
        self._begin, self._count = np.zeros((2, len(grains)), np.int64)
        names: list[str] = []
        plain: dict[int, tuple[Any, ...]] = {}
        found: dict[tuple[int, int], list[tuple[int, float]]] = {}
        for number, (grain, of) in enumerate(zip(grains, parts, strict=True)):
            place = {part: at for at, part in enumerate(of)}
            for part, at in place.items():
                self._nothing[number, at] = 0 if part.op == SUM else _NOTHING
                self._is_bucket[number, at] = part.reads == "bucket"
                if part.reads == "user":
                    self._users[number] = at
            self._begin[number] = len(names)
            for metric in grain.metrics:
                if metric.aggregate != "quantiles":
                    first, second = metric_parts(metric)[0], metric_parts(metric)[-1]
                    is_quotient = metric.aggregate in ("mean", "ratio")
                    for name in metric.series:
                        plain[len(names)] = (
                            *(place[first], place[second], _scale(first)),
                            *(_scale(second), is_quotient, self._nothing[number, place[second]]),
                        )
                        names.append(name)
            self._count[number] = len(names) - self._begin[number]
            for metric in grain.metrics:
                if metric.aggregate == "quantiles":
                    of_part = found.setdefault((number, place[metric_parts(metric)[0]]), [])
                    for name, q in zip(metric.series, metric.quantiles, strict=True):
                        of_part.append((len(names), q))
                        names.append(name)
        self.names = np.array(names, object)
        lines = [plain.get(at, (0,) * 6) for at in range(len(names))]
        table = np.array(lines, np.int64).reshape(-1, 6)
        self._first, self._second, self._scales, self._divisors, divides, self._absent = table.T
        """`_second` says whether there was an observation: their number, or the denominator."""
        self._divides = divides.astype(bool)
        # Of each part that has quantiles: where they begin among all quantiles, and how many.
        self._asked = np.zeros((*shape, 2), np.int64)
        asked: list[tuple[int, float]] = []
        for where, of_part in found.items():
            self._asked[where] = len(asked), len(of_part)
            asked += of_part
        self._series_of = np.array([at for at, _ in asked], np.int64)
        self._quantiles = np.array([q for _, q in asked], np.float64)

    def values(self, entries: Entries, grain: Array, users: Array) -> Values:
        """The metrics of rows, each of the grain given; `users` are the distinct ones, -1 where
        not known: they come as a part in minutes, and from `users` in hours and days.
        """
        part = part_of(entries.slot)
        of_grain = grain[entries.row]
        is_bucket = self._is_bucket[of_grain, part]
        wide = (~is_bucket).nonzero()[0]
        table = self._nothing[grain]
        table[entries.row[wide], part[wide]] = entries.value[wide]
        place = self._users[grain]
        counted = (place >= 0).nonzero()[0]
        known = counted[users[counted] >= 0]
        table[known, place[known]] = users[known]
        users = np.full(len(grain), -1)
        users[counted] = table[counted, place[counted]]

        row, series = _stretches(self._begin[grain], self._count[grain])
        second = table[row, self._second[series]]
        valid = (second != self._absent[series]).nonzero()[0]
        row, series, second = row[valid], series[valid], second[valid]
        numerator = table[row, self._first[series]] / self._scales[series]
        denominator = np.where(self._divides[series], second / self._divisors[series], 1.0)
        if len(wide) < len(part):
            bucket = is_bucket.nonzero()[0]
            of = Entries(*(column[bucket] for column in entries))
            at, asked, value = self._of_buckets(of, part[bucket], of_grain[bucket])
            row, series = np.concatenate([row, at]), np.concatenate([series, asked])
            numerator = np.concatenate([numerator, value])
            denominator = np.concatenate([denominator, np.ones(len(at))])
            order = np.lexsort((series, row))
            row, series = row[order], series[order]
            numerator, denominator = numerator[order], denominator[order]
        return Values(row, series, numerator, denominator, users)

    def _of_buckets(
        self, entries: Entries, part: Array, grain: Array
    ) -> tuple[Array, Array, Array]:
        """Quantiles of entries sorted by row and slot: of which row and series, and how much."""
        first = firsts(entries.row << PART_BITS | part).nonzero()[0]
        upto = np.cumsum(entries.value)
        before = upto[first] - entries.value[first]
        total = np.add.reduceat(entries.value, first)
        begin, count = self._asked[grain[first], part[first]].T
        group, asked = _stretches(begin, count)
        rank = np.floor(self._quantiles[asked] * (total[group] - 1)).astype(np.int64)
        # The bucket of a rank is the first one whose running count is above it.
        at = np.searchsorted(upto, before[group] + rank, side="right")
        values = bucket_values(bucket_of(entries.slot[at]))
        return entries.row[first[group]], self._series_of[asked], values


def _stretches(begin: Array, count: Array) -> tuple[Array, Array]:
    """Of each of these stretches of numbers all that are in it: which stretch, and the number."""
    which = np.repeat(np.arange(len(begin)), count)
    return which, np.arange(len(which)) + (begin - count.cumsum() + count)[which]


_NOTHING = np.iinfo(np.int64).min
"""No observation of a minimum or maximum."""


def _scale(part: Part) -> int:
    return part.selection.scale if part.reads == "value" else 1
