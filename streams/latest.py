"""State by key of which the latest wins: a few rows a key, replaced as a whole.

    index    key ──> place of the first of its rows, and how many     merged, as it is small
    rows     ……, a a, b, c c c, ……, a, ……                             written once, where they are

What a key had before is of no use any more; once that is a third of all, the rest is written anew.
Whoever keeps the old state can go back to it.

Upstream: states that change a key at a time. Invariants: never changed in place; the rows of a key
lie side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import DTypeLike

from streamgauge.streams.chunks import FAN, everything, located, looked_up, newest, parted
from streamgauge.streams.metrics.keys import among, distinct, firsts
from streamgauge.streams.metrics.runs import Columns, Run, Runs, concatenated, spread
from streamgauge.streams.tiers import appended

Array = np.ndarray

_FEW = 10_000


_NO_PLACES = Runs(dtypes=(np.int64, np.int32), fold=newest)


@dataclass(frozen=True, kw_only=True)
class Latest:
    """An immutable table; make the first one by `Latest.of`."""

    chunks: tuple[Run, ...]
    """Rows by place, with their keys; the first one from 0 on, never none."""
    index: Runs = _NO_PLACES
    """Of each key once: the place of its first row, and how many it has."""
    unused: int = 0

    @staticmethod
    def of(*dtypes: DTypeLike) -> Latest:
        """An empty one with columns of these types."""
        columns = tuple(np.zeros(0, dtype) for dtype in dtypes)
        return Latest(chunks=(Run(key=np.zeros(0, np.uint64), columns=columns),))

    def __len__(self) -> int:
        """How many rows are held, those of no use included."""
        return sum(map(len, self.chunks))

    def find(self, keys: Array) -> tuple[Array, Columns]:
        """All rows of these keys, which are unique: which key, and the columns."""
        which, place = spread(*looked_up(self.index, keys, 0))
        found, back = located(self.chunks, place)
        run = concatenated(
            [chunk.take(there) for chunk, there in found] or [self.chunks[0].take(place)]
        )
        return which, (run if back is None else run.take(back)).columns

    def put(self, keys: Array, run: Run, replaced: int) -> Latest:
        """With these rows in place of all that the keys (unique) had: so many rows."""
        if not len(keys):
            return self
        if (run.key[1:] < run.key[:-1]).any():
            run = run.take(np.argsort(run.key, kind="stable"))
        first = firsts(run.key).nonzero()[0]
        key, count = run.key[first], np.diff(np.append(first, len(run.key)))
        gone = keys[~among(keys, key)] if len(key) < len(keys) else keys[:0]
        gone = gone[self.index.has(gone)]
        nothing = np.zeros(len(gone), np.int64)
        table = replace(
            self,
            index=self.index.add(
                np.concatenate([key, gone]),
                np.concatenate([len(self) + first, nothing]),
                np.concatenate([count, nothing]).astype(np.int32),
            ),
            chunks=appended(self.chunks, run, concatenated, FAN) if len(run) else self.chunks,
            unused=self.unused + replaced,
        )
        return table.compacted() if table.unused > max(_FEW, len(table) // 3) else table

    def where(self, wanted: Callable[[Columns], Array]) -> Run:
        """The rows for which the mask is set."""
        hits = [chunk.key[wanted(chunk.columns)] for chunk in self.chunks]
        keys = distinct(np.concatenate(hits))
        which, columns = self.find(keys)
        run = Run(key=keys[which], columns=columns)
        return run.take(wanted(columns).nonzero()[0])

    def keep(self, wanted: Callable[[Columns], Array]) -> Latest:
        """Only the rows for which the mask is set; it must be the same for all of a key."""
        return self._only([wanted(chunk.columns) for chunk in self.chunks])

    def compacted(self) -> Latest:
        """Without what is of no use any more."""
        return self._only([np.ones(len(chunk), bool) for chunk in self.chunks])

    def changed(self, change: Callable[[Run], Run]) -> Latest:
        """With other values in the columns; what is held and its keys stay."""
        return replace(self, chunks=tuple(map(change, self.chunks)))

    def _only(self, masks: Sequence[Array]) -> Latest:
        """The rows in use for which these masks are set."""
        entries = everything(self.index)
        which, place = spread(*entries.columns)
        kept = np.zeros(len(self), bool)
        kept[place] = True
        kept &= np.concatenate(masks)
        parts = [chunk.take(mine.nonzero()[0]) for chunk, mine in parted(self.chunks, kept)]
        still = kept[place]
        counts = np.bincount(which[still], minlength=len(entries))
        some = counts.nonzero()[0]
        first = kept.cumsum()[entries.columns[0][some]] - 1
        index = _NO_PLACES.add(entries.key[some], first, counts[some].astype(np.int32))
        return Latest(chunks=(concatenated(parts),), index=index)
