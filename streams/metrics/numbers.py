"""Numbers of texts that are known beforehand: names of types, versions, sizes of windows.

Upstream: columns of texts. Downstream: `reading.py`, `merge.py`. Texts are found by their hashes,
a column at once, which costs a tenth of looking each up.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from streamgauge.streams.metrics.keys import of_strings

Array = np.ndarray


class Numbers:
    """Of these texts; they are few."""

    def __init__(self, texts: Sequence[str]) -> None:
        hashes = of_strings(pl.Series(texts, dtype=pl.String))
        order = np.argsort(hashes)
        self._known = hashes[order]
        self._numbers = order.astype(np.int16)

    def of(self, hashes: Array) -> Array:
        """The number of each text, by its hash (`of_strings`); -1 for others."""
        if not len(self._known):
            return np.full(len(hashes), -1, np.int16)
        at = np.minimum(self._known.searchsorted(hashes), len(self._known) - 1)
        return np.where(self._known.take(at) == hashes, self._numbers.take(at), np.int16(-1))
