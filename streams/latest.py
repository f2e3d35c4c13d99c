"""State by key of which the latest wins: a few rows a key, replaced as a whole.

Rows are kept in `Runs` with a version; those of a key with the greatest version are its rows, a
negative version says that it has none any more. So replacing costs as much as what is replaced,
and whoever keeps the old state can go back to it.

Upstream: states that change a key at a time. Invariants: never changed in place; what a key lost
is gone for good once half of all is of no use any more.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import DTypeLike

from streamgauge.streams.metrics.keys import among, distinct
from streamgauge.streams.metrics.runs import Columns, Run, Runs

Array = np.ndarray

_FEW = 10_000


def _newest(run: Run) -> Run:
    """Of each key the rows of the latest version; what a removal leaves is one row."""
    version = np.abs(run.columns[0])
    last = np.searchsorted(run.key, run.key, side="right") - 1
    keep = version == version[last]  # rows of equal key keep the order in which they were added
    return run if keep.all() else run.take(keep.nonzero()[0])


@dataclass(frozen=True, kw_only=True)
class Latest:
    """An immutable table; make the first one by `Latest.of`."""

    runs: Runs
    version: int = 0
    unused: int = 0

    @staticmethod
    def of(*dtypes: DTypeLike) -> Latest:
        """An empty one with columns of these types."""
        return Latest(runs=Runs(dtypes=(np.int64, *dtypes), fold=_newest))

    def __len__(self) -> int:
        """How many rows are held, those of no use included."""
        return len(self.runs)

    def find(self, keys: Array) -> tuple[Array, Columns]:
        """All rows of these keys, which are unique: which key, and the columns."""
        which, (version, *columns) = self.runs.find(keys)
        if not len(which):
            return which, tuple(columns)
        newest = np.zeros(len(keys), np.int64)
        newest[which] = np.abs(version)  # later runs come later
        current = (version == newest[which]).nonzero()[0]
        if len(current) == len(which):
            return which, tuple(columns)
        return which[current], tuple(column.take(current) for column in columns)

    def put(self, keys: Array, run: Run) -> Latest:
        """With these rows in place of all that the keys (unique) had."""
        if not len(keys):
            return self
        version = self.version + 1
        gone = keys[~among(keys, np.sort(run.key))]
        gone = gone[self.runs.has(gone)]
        runs = self.runs.add(run.key, np.full(len(run.key), version), *run.columns)
        if len(gone):
            nothing: list[Array] = [np.zeros(len(gone), dtype) for dtype in self.runs.dtypes[1:]]
            runs = runs.add(gone, np.full(len(gone), -version), *nothing)
        unused = self.unused + len(keys)
        if len(runs.runs) == 1:  # merged: of what is of no use only removals are left
            unused = int((runs.runs[0].columns[0] < 0).sum())
        table = replace(self, runs=runs, version=version, unused=unused)
        return table.compacted() if unused > max(_FEW, len(self.runs) // 2) else table

    def where(self, wanted: Callable[[Columns], Array]) -> Run:
        """The rows for which the mask is set."""

        def mask(run: Run) -> Array:
            return (run.columns[0] > 0) & wanted(run.columns[1:])

        found = self.runs.where(mask)
        keys = distinct(found.key)
        which, columns = self.find(keys)
        run = Run(key=keys[which], columns=columns)
        return run.take(wanted(columns).nonzero()[0])

    def keep(self, wanted: Callable[[Columns], Array]) -> Latest:
        """Only the rows for which the mask is set; it must be the same for all of a key."""
        everything = self._everything()
        return self._only(everything.take(wanted(everything.columns[1:]).nonzero()[0]))

    def compacted(self) -> Latest:
        """Without what is of no use any more."""
        return self._only(self._everything())

    def changed(self, change: Callable[[Run], Run]) -> Latest:
        """With other values in the columns; what is held and its keys stay."""
        runs = tuple(change(run) for run in self.runs.runs)
        return replace(self, runs=replace(self.runs, runs=runs))

    def _everything(self) -> Run:
        found = self.runs.where(lambda run: np.ones(len(run.key), bool))
        order = np.argsort(found.key, kind="stable")
        newest = _newest(found.take(order))
        return newest.take((newest.columns[0] > 0).nonzero()[0])

    def _only(self, run: Run) -> Latest:
        empty = Runs(dtypes=self.runs.dtypes, fold=self.runs.fold)
        return replace(self, runs=empty.add(run.key, *run.columns), unused=0)
