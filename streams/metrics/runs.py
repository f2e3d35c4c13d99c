"""State that never changes in place: columns sorted by a 64-bit key, in runs of growing size.

Adding makes a new `Runs` that shares the old runs, so whoever keeps the old one has the old
state; that is the rollback. Runs of a size are merged (`tiers.py`), so each row is copied a
logarithmic number of times.

Invariants: arrays are never written to after they are in a run; keys may repeat, and rows of
equal key keep the order in which they were added.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import DTypeLike

from streamgauge.streams.metrics.keys import Buckets, ordering
from streamgauge.streams.tiers import appended

Array = np.ndarray
Columns = tuple[Array, ...]

FAN = 3
"""Runs of a size that are merged."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """Rows sorted by key."""

    key: Array
    columns: Columns

    def __len__(self) -> int:
        return len(self.key)

    @cached_property
    def buckets(self) -> Buckets:
        """For looking up keys, made when it is first asked for."""
        return Buckets.of(self.key)

    def search(self, keys: Array) -> tuple[Array, Array]:
        """Of each key the first place whose key is not less, and whether it is the key's."""
        place = self.buckets.places(keys)
        found: Array = self.key.take(place, mode="clip") == keys
        return place, found

    def take(self, index: Array) -> Run:
        """Rows by their places; `take`, as indexing copies a structured row field by field."""
        return Run(
            key=self.key.take(index), columns=tuple(column.take(index) for column in self.columns)
        )


def spread(place: Array, count: Array) -> tuple[Array, Array]:
    """Of each row, where so many lie side by side from each of these places on: which of them it
    belongs to, and its own place."""
    if (count == 1).all():
        return np.arange(len(count)), place
    which = np.repeat(np.arange(len(count)), count)
    nth = np.arange(len(which)) - np.repeat(count.cumsum() - count, count)
    return which, place[which] + nth


Fold = Callable[[Run], Run]


def together(columns: Sequence[Array]) -> Array:
    """One column after the other, of one type; structured rows as bytes, for numpy copies those
    field by field."""
    dtype = columns[0].dtype
    if dtype.names is None:
        return np.concatenate(columns)
    size = np.dtype((np.void, dtype.itemsize))
    return np.concatenate([column.view(size) for column in columns]).view(dtype)


def concatenated(runs: Sequence[Run]) -> Run:
    """One after the other."""
    if len(runs) == 1:
        return runs[0]
    return Run(
        key=np.concatenate([run.key for run in runs]),
        columns=tuple(together(some) for some in zip(*(run.columns for run in runs), strict=True)),
    )


def joined(runs: Sequence[Run]) -> Run:
    """All of these, sorted by key."""
    run = concatenated(runs)
    return run.take(np.argsort(run.key, kind="stable"))  # of sorted parts: merged in one pass


@dataclass(frozen=True, kw_only=True)
class Runs:
    """An immutable table."""

    dtypes: tuple[DTypeLike, ...]
    fold: Fold | None = None
    """Makes one row of several of equal key, where that loses nothing."""
    runs: tuple[Run, ...] = ()

    def __len__(self) -> int:
        return sum(len(run.key) for run in self.runs)

    def add(self, key: Array, *columns: Array) -> Runs:
        """With these rows as well; they may be in any order."""
        if not len(key):
            return self
        run = Run(key=key, columns=columns).take(ordering(key))
        return replace(self, runs=appended(self.runs, run, self._merged, FAN))

    def find(self, keys: Array) -> tuple[Array, Columns]:
        """All rows that have one of these keys: which key, and the columns; older rows first."""
        which, found = [np.zeros(0, np.int64)], [self.nothing()]
        for run in self.runs:
            low, there = run.search(keys)
            hits = there.nonzero()[0]
            if not len(hits):
                continue
            low, asked = low.take(hits), keys.take(hits)
            following = np.minimum(low + 1, len(run) - 1)
            again = (run.key.take(following) == asked) & (following > low)
            if not again.any():  # one row of each
                which.append(hits)
                index = low
            else:
                counts = np.searchsorted(run.key, asked, side="right") - low
                of, index = spread(low, counts)
                which.append(hits[of])
            found.append(tuple(column.take(index) for column in run.columns))
        if len(which) == 2:
            return which[1], found[1]
        return np.concatenate(which), tuple(
            together(columns) for columns in zip(*found, strict=True)
        )

    def has(self, keys: Array) -> Array:
        """Whether each key is there."""
        found = np.zeros(len(keys), bool)
        for run in self.runs:
            found |= run.search(keys)[1]
        return found

    def where(self, wanted: Callable[[Run], Array]) -> Run:
        """The rows for which the mask is set, in no order of keys; older rows first."""
        nothing = Run(key=np.zeros(0, np.uint64), columns=self.nothing())
        return concatenated(
            [nothing, *(run.take(np.flatnonzero(wanted(run))) for run in self.runs)]
        )

    def keep(self, wanted: Callable[[Run], Array]) -> Runs:
        """Only the rows for which the mask is set."""
        kept = tuple(run.take(np.flatnonzero(wanted(run))) for run in self.runs)
        return Runs(
            dtypes=self.dtypes, fold=self.fold, runs=tuple(run for run in kept if len(run.key))
        )

    def _merged(self, runs: Sequence[Run]) -> Run:
        run = joined(runs)
        return self.fold(run) if self.fold else run

    def nothing(self) -> Columns:
        """Columns without rows."""
        return tuple(np.zeros(0, dtype) for dtype in self.dtypes)
