"""What profiles read of a batch of events, as arrays: texts as hashes, numbers as doubles.

All of it is one query: on a small batch a query a column costs more than what is done with it.

Upstream: accepted events. Downstream: `digest.py`. Invariants: a hash is that of `keys.of_strings`;
`NULL` is that of no text, NaN that of no number.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from streamgauge.streams.metrics.keys import of_strings

Array = np.ndarray

TEXTS = (
    *("event_type", "action", "device_type", "screen_size", "connection_speed", "quality"),
    *("country", "genre", "content_type", "task_status", "priority"),
)
NUMBERS = (
    *("position_ms", "duration_ms", "completion_rate", "duration", "score", "total_questions"),
    *("due_date", "results_count", "exploration"),
)
NULL = of_strings(pl.Series([None], dtype=pl.String))[0]

_QUERY = [
    *(pl.col(name).hash(0) for name in ("user_key", *TEXTS)),
    *(pl.col(name).cast(pl.Float64) for name in NUMBERS),
    *(pl.col(name) for name in ("partition", "offset", "timestamp")),
]


@dataclass(frozen=True, kw_only=True)
class Columns:
    """A batch of events."""

    frame: pl.DataFrame
    arrays: Mapping[str, Array]
    """Of each column but those that are texts only."""

    @staticmethod
    def of(frame: pl.DataFrame) -> Columns:
        found = frame.select_seq(_QUERY)
        return Columns(
            frame=frame, arrays={one.name: one.to_numpy() for one in found.get_columns()}
        )

    def __getitem__(self, name: str) -> Array:
        return self.arrays[name]

    def said(self, name: str) -> Array:
        """Places of the events that say this text."""
        return (self.arrays[name] != NULL).nonzero()[0]

    def texts(self, names: tuple[str, ...], places: Array) -> zip[tuple[str | None, ...]]:
        """The texts of some events."""
        return zip(*(self.frame[name][places].to_list() for name in names), strict=True)
