"""Rows by key of which the newest counts: written once where they are, found by an index.

Rows are appended; the index (`Runs` of key and position) is what is merged, so a row is copied
about twice in its life, not once a merge. Once rows of no use are half as many as the others, those
that count are written anew.

Upstream: `profiles.py`. Invariant: never changed in place; whoever keeps the old one has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from streamgauge.streams.metrics.keys import distinct, firsts
from streamgauge.streams.metrics.runs import Run, Runs
from streamgauge.streams.profiles import rows as profile
from streamgauge.streams.profiles.packed import Packed

Array = np.ndarray

_FEW = 20_000
_FAN = 8
_WHOLE = 99


def _newest(run: Run) -> Run:
    """The last position of each key."""
    return run.take(np.append(firsts(run.key)[1:], True).nonzero()[0])


NO_PLACES = Runs(dtypes=(np.int64,), fold=_newest)


@dataclass(frozen=True, kw_only=True)
class Table:
    """An immutable table of profiles."""

    index: Runs = NO_PLACES
    chunks: tuple[Packed, ...] = ()
    """Rows by position, the first chunk from 0 on."""
    levels: tuple[int, ...] = ()
    """Of each chunk: how often it was joined; a few of one level become one of the next."""
    count: int = 0
    """Keys."""

    def __len__(self) -> int:
        """How many rows are held, those of no use included."""
        return sum(map(len, self.chunks))

    def find(self, keys: Array) -> tuple[Array, Array]:
        """Which of these keys (each once) are there, and their rows."""
        place = self.places(keys)
        which = (place >= 0).nonzero()[0]
        return which, self.rows(place[which])

    def places(self, keys: Array) -> Array:
        """The positions of these keys' rows, or -1."""
        place = np.full(len(keys), -1)
        for run in self.index.runs:  # later versions are in later runs, each key once in each
            at = np.searchsorted(run.key, keys)
            at[at == len(run.key)] = 0
            here = (run.key.take(at) == keys).nonzero()[0]
            place[here] = run.columns[0].take(at[here])
        return place

    def put(self, keys: Array, rows: Packed, new: int) -> Table:
        """With these rows (keys sorted, each once), of which so many have keys that are new."""
        if not len(keys):
            return self
        chunks, levels = [*self.chunks, rows], [*self.levels, 0]
        while levels[-_FAN:] == [levels[-1]] * _FAN:
            chunks[-_FAN:] = [Packed.together(chunks[-_FAN:])]
            levels[-_FAN:] = [levels[-1] + 1]
        table = Table(
            index=self.index.add(keys, len(self) + np.arange(len(keys))),
            chunks=tuple(chunks),
            levels=tuple(levels),
            count=self.count + new,
        )
        return table.compacted() if len(table) > 1.5 * table.count + _FEW else table

    def compacted(self) -> Table:
        """Without rows of no use."""
        keys, places = self._all()
        live = np.zeros(len(self), bool)
        live[places] = True
        ends = np.cumsum([0, *map(len, self.chunks)]).tolist()
        kept = [
            chunk.only(live[first:last])
            for chunk, first, last in zip(self.chunks, ends, ends[1:], strict=False)
        ]
        return Table(
            index=NO_PLACES.add(keys, live.cumsum()[places] - 1),
            chunks=(Packed.together(kept),),
            levels=(_WHOLE,),
            count=len(keys),
        )

    def where(self, wanted: Callable[[Packed], Array]) -> Array:
        """The keys of the rows for which the mask is set, sorted."""
        marks = [np.zeros(0, bool), *map(wanted, self.chunks)]
        keys, places = self._all()
        found: Array = keys[np.concatenate(marks)[places]]
        return found

    def _all(self) -> tuple[Array, Array]:
        """All keys, sorted, and the positions of their rows."""
        run = self.index.where(lambda run: np.ones(len(run.key), bool))
        if len(self.index.runs) > 1:  # later versions are in later runs, and stay behind
            run = _newest(run.take(np.argsort(run.key, kind="stable")))
        return run.key, run.columns[0]

    def partitions(self) -> set[int]:
        """Those that rows are of."""
        return {p for chunk in self.chunks for p in distinct(chunk.field("partition")).tolist()}

    def rows(self, places: Array) -> Array:
        """The rows at these positions."""
        if len(self.chunks) == 1:
            return self.chunks[0].rows(places)
        ends = np.cumsum([len(chunk) for chunk in self.chunks])
        of = np.searchsorted(ends, places, side="right")
        order = np.argsort(of, kind="stable")
        bounds = np.searchsorted(of[order], np.arange(len(ends) + 1)).tolist()
        there = [
            (chunk, places[order[low:high]] - (end - len(chunk)))
            for chunk, end, low, high in zip(
                self.chunks, ends.tolist(), bounds, bounds[1:], strict=False
            )
            if high > low
        ]
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        return Packed.gathered(there).rows(back) if there else profile.empty(0)
