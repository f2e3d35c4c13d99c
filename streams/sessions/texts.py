"""Texts by number, so that rows of state are of one size and are copied without looking at them.

Number 0 is null. Adding makes a new `Texts` that shares what the old one has, so whoever keeps the
old one has the old texts. Texts that no row names any more are left out by `only`.

Upstream: `spans.py`, rows of changelogs, snapshots. Downstream: states and rows of sessions.
Invariants: a number means the same text in all that were made from one another; never changed in
place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

Array = np.ndarray


@dataclass(frozen=True, kw_only=True)
class Texts:
    """An immutable list of texts."""

    chunks: tuple[pl.Series, ...] = (pl.Series([None], dtype=pl.String),)
    kept: int = 1
    """How many there were when those of no use were left out."""

    def __len__(self) -> int:
        return sum(map(len, self.chunks))

    def add(self, texts: pl.Series) -> Texts:
        """With these, whose numbers follow the last one."""
        if not len(texts):
            return self
        chunks = list(self.chunks)
        while len(chunks) > 1 and len(chunks[-1]) <= 2 * len(texts):
            texts = pl.concat([chunks.pop(), texts], rechunk=True)
        return Texts(chunks=(*chunks, texts), kept=self.kept)

    def of(self, numbers: Array) -> pl.Series:
        """The texts with these numbers."""
        return pl.concat(self.chunks, rechunk=False).gather(pl.Series(numbers.astype(np.uint32)))

    def only(self, used: Array) -> tuple[Texts, Array]:
        """Those for which the mask is set, and the new number of each old one."""
        used[0] = True
        numbers = used.nonzero()[0]
        number = np.cumsum(used, dtype=np.int32) - np.int32(1)
        mine = pl.concat_str(self.of(numbers), pl.lit(""), ignore_nulls=False)  # memory of its own
        return Texts(chunks=(pl.select(mine).to_series(),), kept=len(numbers)), number
