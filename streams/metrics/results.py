"""From parts to metrics: the values of a row, as `MetricUpdate` has them.

Upstream: `merge.py`, with the parts of whole rows. Invariant: a metric without observations is
left out of its row, and what is left out depends on the parts alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from streamgauge.schemas.metrics import Grain, Metric
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
    """Values of many rows, sorted by row and then by the grain's order of metrics."""

    row: Array
    name: Array
    """Names of series, as objects."""
    numerator: Array
    denominator: Array


class Results:
    """Evaluates the rows of one grain."""

    def __init__(self, grain: Grain) -> None:
        self._parts = grain_parts(grain)
        self._metrics = grain.metrics
        self._numbers = {part: number for number, part in enumerate(self._parts)}
        self._user_part = next(
            (number for number, part in enumerate(self._parts) if part.reads == "user"), None
        )
        self.names = np.array([name for m in grain.metrics for name in m.series], object)

    def values(self, entries: Entries, rows: int, users: Array) -> Values:
        """The metrics of rows 0..rows-1; `users` are the distinct ones, -1 where not known.

        Distinct users come as a part in minutes, and from `users` in hours and days.
        """
        table, of_buckets = self._table(entries, rows)
        found: list[tuple[Array, Array, Array]] = []  # rows, numerators, denominators
        for metric in self._metrics:
            found += self._of_metric(metric, table, of_buckets, users)
        sizes = [len(row) for row, _, _ in found]
        row = np.concatenate([row for row, _, _ in found])
        order = np.argsort(row, kind="stable")
        return Values(
            row=row[order],
            name=np.repeat(self.names, sizes)[order],
            numerator=np.concatenate([n for _, n, _ in found])[order],
            denominator=np.concatenate([d for _, _, d in found])[order],
        )

    def users(self, entries: Entries, users: Array) -> Array:
        """The rows' distinct users; -1 where the grain does not count them."""
        if self._user_part is None:
            return np.full(len(users), -1)
        found = np.maximum(users, 0)
        mine = part_of(entries.slot) == self._user_part
        row = entries.row[mine]
        found[row] = np.where(users[row] < 0, entries.value[mine], found[row])
        return found

    def _table(self, entries: Entries, rows: int) -> tuple[Array, Entries]:
        """The parts as a table, one line for each part, and the quantiles' entries."""
        table = np.zeros((len(self._parts), rows), np.int64)
        table[[part.op != SUM for part in self._parts]] = _NOTHING
        number = part_of(entries.slot)
        wide = np.array([part.reads != "bucket" for part in self._parts])[number]
        table[number[wide], entries.row[wide]] = entries.value[wide]
        return table, Entries(*(column[~wide] for column in entries))

    def _of_metric(
        self, metric: Metric, table: Array, entries: Entries, users: Array
    ) -> list[tuple[Array, Array, Array]]:
        parts = metric_parts(metric)
        first = table[self._numbers[parts[0]]]
        if metric.aggregate == "quantiles":
            return self._quantiles(metric, parts[0], entries)
        if metric.aggregate == "distinct_users":
            first = np.where(users >= 0, users, first)
        if metric.aggregate in ("min", "max"):
            row = np.flatnonzero(first != _NOTHING)
        else:
            row = np.flatnonzero(table[self._numbers[parts[1]]] if len(parts) > 1 else first)
        numerator = first[row] / _scale(parts[0])
        denominator = np.ones(len(row))
        if metric.aggregate in ("mean", "ratio"):
            denominator = table[self._numbers[parts[1]]][row] / _scale(parts[1])
        return [(row, numerator, denominator)]

    def _quantiles(
        self, metric: Metric, part: Part, entries: Entries
    ) -> list[tuple[Array, Array, Array]]:
        mine = part_of(entries.slot) == self._numbers[part]
        row, slot, count = (column[mine] for column in entries)
        if not len(row):
            return [(row, np.zeros(0), np.zeros(0))] * len(metric.quantiles)
        first = np.flatnonzero(np.r_[True, row[1:] != row[:-1]])
        rows, upto = row[first], np.cumsum(count)
        before = upto[first] - count[first]
        total = np.add.reduceat(count, first)
        value = bucket_values(bucket_of(slot))
        one = np.ones(len(rows))
        found = []
        for q in metric.quantiles:
            rank = np.floor(q * (total - 1)).astype(np.int64)
            # The bucket of a rank is the first one whose running count is above it.
            at = np.searchsorted(upto, before + rank, side="right")
            found.append((rows, value[at], one))
        return found


_NOTHING = np.iinfo(np.int64).min
"""No observation of a minimum or maximum."""


def _scale(part: Part) -> int:
    return part.selection.scale if part.reads == "value" else 1
