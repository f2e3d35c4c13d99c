"""Numbers in place of texts that are known beforehand, and of keys that come again.

Upstream: hashes of texts (types, versions, sizes of windows), keys of rows. Downstream:
`reading.py`, `addition.py`, `merge.py`, `profiles/kinds.py`. All is done a column at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from streamgauge.streams.metrics.keys import firsts, of_strings

Array = np.ndarray


class Numbers:
    """Of these texts; they are few."""

    def __init__(self, texts: Sequence[str], other: int = -1) -> None:
        hashes = of_strings(pl.Series(texts, dtype=pl.String))
        order = np.argsort(hashes)
        self._known = hashes[order]
        self._numbers = order.astype(np.int16)
        self._other = np.int16(other)

    def of(self, hashes: Array) -> Array:
        """The number of each text, by its hash (`of_strings`); `other` for others."""
        if not len(self._known):
            return np.full(len(hashes), self._other)
        at = np.minimum(self._known.searchsorted(hashes), len(self._known) - 1)
        return np.where(self._known.take(at) == hashes, self._numbers.take(at), self._other)


_SLOTS = 1 << 16
_FEW = 2_000


def numbered(keys: Array) -> tuple[Array, Array]:
    """A row of each key, and of each row the number of its key among those.

    Where there are many, without sorting them, at a fifth of its cost: each row writes its place
    into a table by some bits of its key; the one that is found there stands for all of the key.
    """
    if len(keys) <= _FEW:
        return _sorted(keys)
    stands = np.empty(len(keys), np.int64)
    table = np.empty(_SLOTS, np.int64)
    left, bits = np.arange(len(keys)), keys
    for _ in range(4):  # keys that share a slot go on with other bits
        of_left = keys if len(left) == len(keys) else keys.take(left)
        slot = bits.astype(np.uint16)
        table[slot] = left
        found = table.take(slot)
        stands[left] = found
        missed = (keys.take(found) != of_left).nonzero()[0]
        if not len(missed):
            break
        left, bits = left.take(missed), bits.take(missed) >> np.uint64(16)
    else:
        return _sorted(keys)
    is_one = stands == np.arange(len(keys))
    return is_one.nonzero()[0], (is_one.cumsum() - 1).take(stands)


def _sorted(keys: Array) -> tuple[Array, Array]:
    order = keys.argsort()
    is_first = firsts(keys.take(order))
    number = np.empty(len(keys), np.int64)
    number[order] = is_first.cumsum() - 1
    return order[is_first], number
