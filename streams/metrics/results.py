"""From parts to metrics: the values of a row, as `MetricUpdate` has them.

Upstream: `merge.py`, with the parts of whole rows. Invariant: a metric without observations is
left out of its row, and what is left out depends on the parts alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamgauge.schemas.metrics import Grain, Metric
from streamgauge.streams.metrics.keys import firsts
from streamgauge.streams.metrics.parts import (
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
    name: Array
    """Names of series, as objects."""
    numerator: Array
    denominator: Array
    users: Array
    """Distinct users of each row, -1 where the grain does not count them."""


class Results:
    """Evaluates the rows of one grain: a line of a table for each series, a column for each row."""

    def __init__(self, grain: Grain) -> None:
        parts = grain_parts(grain)
        number = {part: number for number, part in enumerate(parts)}
        self._parts = len(parts)
        self._extremes = np.array([part.op != SUM for part in parts])
        self._is_bucket = np.array([part.reads == "bucket" for part in parts])
        self._users = next((n for n, part in enumerate(parts) if part.reads == "user"), None)
        series = [
            (metric, metric_parts(metric), name)
            for metric in grain.metrics
            if metric.aggregate != "quantiles"
            for name in metric.series
        ]
        self._quantiles = [
            (metric, number[metric_parts(metric)[0]])
            for metric in grain.metrics
            if metric.aggregate == "quantiles"
        ]
        self._first = np.array([number[of[0]] for _, of, _ in series], np.int64)
        self._second = np.array([number[of[-1]] for _, of, _ in series], np.int64)
        """What says whether there was an observation: the number of them, or the denominator."""
        self._scales = np.array([[_scale(of[0])] for _, of, _ in series]).reshape(-1, 1)
        self._divides = np.array([m.aggregate in ("mean", "ratio") for m, _, _ in series], bool)
        self._divisors = np.array([[_scale(of[-1])] for _, of, _ in series]).reshape(-1, 1)
        self._nothing = np.where(self._extremes[self._second], _NOTHING, 0).reshape(-1, 1)
        names = [name for *_, name in series]
        names += [name for metric, _ in self._quantiles for name in metric.series]
        self._names = np.array(names, object)

    def values(self, entries: Entries, rows: int, users: Array) -> Values:
        """The metrics of rows 0..rows-1; `users` are the distinct ones, -1 where not known.

        Distinct users come as a part in minutes, and from `users` in hours and days.
        """
        table = np.zeros((self._parts, rows), np.int64)
        table[self._extremes] = _NOTHING
        number = part_of(entries.slot)
        bucket = self._is_bucket[number]
        wide = ~bucket
        table[number[wide], entries.row[wide]] = entries.value[wide]
        if self._users is not None:
            table[self._users] = np.where(users < 0, table[self._users], users)
        numerators, second = table[self._first] / self._scales, table[self._second]
        denominators = np.ones(numerators.shape)
        denominators[self._divides] = (second / self._divisors)[self._divides]
        valid = second != self._nothing
        for metric, part in self._quantiles:
            mine = bucket & (number == part)
            found = _quantiles(metric, Entries(*(column[mine] for column in entries)), rows)
            numerators = np.vstack([numerators, found])
            denominators = np.vstack([denominators, np.ones(found.shape)])
            valid = np.vstack([valid, ~np.isnan(found)])
        row, series = valid.T.nonzero()
        return Values(
            row=row,
            name=self._names[series],
            numerator=numerators[series, row],
            denominator=denominators[series, row],
            users=np.full(rows, -1) if self._users is None else table[self._users],
        )


def _quantiles(metric: Metric, buckets: Entries, rows: int) -> Array:
    """A line for each quantile; NaN where a row has no observations."""
    found = np.full((len(metric.quantiles), rows), np.nan)
    if not len(buckets.row):
        return found
    first = firsts(buckets.row).nonzero()[0]
    upto = np.cumsum(buckets.value)
    before = upto[first] - buckets.value[first]
    total = np.add.reduceat(buckets.value, first)
    values = bucket_values(bucket_of(buckets.slot))
    for line, q in enumerate(metric.quantiles):
        rank = np.floor(q * (total - 1)).astype(np.int64)
        # The bucket of a rank is the first one whose running count is above it.
        found[line, buckets.row[first]] = values[np.searchsorted(upto, before + rank, side="right")]
    return found


_NOTHING = np.iinfo(np.int64).min
"""No observation of a minimum or maximum."""


def _scale(part: Part) -> int:
    return part.selection.scale if part.reads == "value" else 1
