"""Rows by key of which the newest counts: written once where they are, found by an index.

A row is copied about twice in its life (`chunks.py`), not once a merge. Once rows of no use are
as many as the others, those that count are written anew.

Upstream: `profiles.py`. Invariant: never changed in place; whoever keeps the old one has it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from streamgauge.streams.chunks import FAN, everything, located, looked_up, newest, parted
from streamgauge.streams.metrics.keys import distinct
from streamgauge.streams.metrics.runs import Runs
from streamgauge.streams.profiles import rows as profile
from streamgauge.streams.profiles.packed import Packed
from streamgauge.streams.tiers import appended

Array = np.ndarray

_FEW = 20_000
_EMPTY = Packed.of(profile.empty(1))
NO_PLACES = Runs(dtypes=(np.int64,), fold=newest)


@dataclass(frozen=True, kw_only=True)
class Table:
    """An immutable table of profiles."""

    index: Runs = NO_PLACES
    chunks: tuple[Packed, ...] = ()
    """Rows by position, the first chunk from 0 on."""
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
        (place,) = looked_up(self.index, keys, -1)
        return place

    def put(self, keys: Array, rows: Packed, new: int) -> Table:
        """With these rows (keys sorted, each once), of which so many have keys that are new."""
        if not len(keys):
            return self
        table = Table(
            index=self.index.add(keys, len(self) + np.arange(len(keys))),
            chunks=appended(self.chunks, rows, Packed.together, FAN),
            count=self.count + new,
        )
        return table.compacted() if len(table) > 2 * table.count + _FEW else table

    def compacted(self) -> Table:
        """Without rows of no use."""
        run = everything(self.index)
        live = np.zeros(len(self), bool)
        (places,) = run.columns
        live[places] = True
        kept = [chunk.only(mine) for chunk, mine in parted(self.chunks, live)]
        return Table(
            index=NO_PLACES.add(run.key, live.cumsum()[places] - 1),
            chunks=(Packed.together(kept),),
            count=len(run),
        )

    def where(self, wanted: Callable[[Packed], Array]) -> Array:
        """The keys of the rows for which the mask is set, sorted."""
        marks = [np.zeros(0, bool), *map(wanted, self.chunks)]
        run = everything(self.index)
        return run.key[np.concatenate(marks)[run.columns[0]]]

    def partitions(self) -> set[int]:
        """Those that rows are of."""
        return {p for chunk in self.chunks for p in distinct(chunk.field("partition")).tolist()}

    def rows(self, places: Array) -> Array:
        """The rows at these positions."""
        packed, there = self.found(places)
        return packed.rows(there)

    def found(self, places: Array) -> tuple[Packed, Array]:
        """Some rows at rest, and where among them those at these positions are; an empty one for
        the position -1."""
        known = (places >= 0).nonzero()[0]
        parts, back = located(self.chunks, places[known])
        if back is None and len(known) == len(places):
            return parts[0]
        packed = Packed.gathered([*parts, (_EMPTY, np.zeros(1, np.int64))])
        there = np.full(len(places), len(packed) - 1)
        there[known] = np.arange(len(known)) if back is None else back
        return packed, there
