"""What definitions read of a batch of events, each thing once for all metrics.

Upstream: the wide frame of decoded events. Downstream: `plan.py`. One polars query reads the
conditions, observations and hashes; the rest is arrays. Types of events are compared by a hash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from streamgauge.schemas.metrics import WINDOW_MS, Condition, Selection
from streamgauge.streams.metrics import columns

Array = np.ndarray

MINUTE_MS = WINDOW_MS["1m"]


@dataclass(frozen=True, kw_only=True)
class Events:
    """What definitions read of the accepted events of a frame; rows are places in the frame."""

    frame: pl.DataFrame
    partition: Array
    minute: Array
    """Minutes since the epoch."""
    has_user: Array
    """Whether there is somebody to be counted."""
    user: Array
    """A hash of who it was."""
    hashes: Mapping[str, Array]
    """Of each dimension's values."""
    taken: Mapping[Selection, Array]
    """Rows that a selection takes."""
    seen: Mapping[Selection, tuple[Array, Array]]
    """Rows among them with an observation of the selection's field, and the observations."""


class Reader:
    """Reads frames for these selections and dimensions."""

    def __init__(self, selections: Sequence[Selection], dimensions: Sequence[str]) -> None:
        self._selections, self._dimensions = selections, dimensions
        fields = sorted({f for s in selections for f, _ in s.kinds}.union(dimensions))
        self.columns: frozenset[str] = columns.needed(fields)
        """What has to be decoded, beside what always is."""
        self._derived = columns.derived(fields)
        self._conditions = {s.where: str(s.where) for s in selections if s.where}
        types = sorted({event for s in selections for event in s.events or ()})
        hashes = pl.Series(types, dtype=pl.String).hash(0).to_list()
        self._types = dict(zip(types, hashes, strict=True))
        self._reads = self._expressions()

    def _expressions(self) -> list[pl.Expr]:
        """All that is read of a frame, under names that cannot be those of its columns."""
        reads = {
            "type hash": pl.col("event_type").hash(0),
            "user hash": pl.col("user_key").hash(0),
            "has user": pl.col("user_key").is_not_null(),
        }
        for dimension in self._dimensions:
            reads[f"{dimension} hash"] = pl.col(dimension).cast(pl.String).hash(0)
        for where, name in self._conditions.items():
            reads[name] = columns.condition(where)
        for selection in self._selections:
            if selection.field is not None and selection.kind is not None:
                seen, value = columns.observed(selection.field, selection.kind)
                reads |= {f"{selection.field} seen": seen, f"{selection.field} value": value}
        return [expression.alias(name) for name, expression in reads.items()]

    def events(self, frame: pl.DataFrame, accepted: Array, identifiable: pl.Expr) -> Events:
        """Reads a frame; `accepted` is a mask of its rows."""
        frame = frame.with_columns(self._derived)
        query = frame.select(*self._reads, identifiable.alias("identifiable"))
        read = {column.name: column.to_numpy() for column in query}
        types = {
            event: (read["type hash"] == hashed) & accepted for event, hashed in self._types.items()
        }

        def rows(events: Sequence[str] | None, where: Sequence[Condition]) -> Array:
            mask = accepted
            if events is not None:
                mask = np.logical_or.reduce([types[event] for event in events])
            if where:
                mask = mask & read[self._conditions[tuple(where)]]
            return mask.nonzero()[0]

        places = {(s.events, s.where) for s in self._selections}
        rows_of = {place: rows(*place) for place in places}
        taken = {s: rows_of[s.events, s.where] for s in self._selections}
        seen = {}
        for selection, of_selection in taken.items():
            if selection.field is not None:
                mask = read[f"{selection.field} seen"][of_selection]
                of_selection = of_selection if mask.all() else of_selection[mask]
                values = read[f"{selection.field} value"][of_selection]
                seen[selection] = of_selection, values
        return Events(
            frame=frame,
            partition=frame["partition"].to_numpy(),
            minute=frame["timestamp"].to_numpy() // MINUTE_MS,
            has_user=read["has user"] & read["identifiable"],
            user=read["user hash"],
            hashes={dimension: read[f"{dimension} hash"] for dimension in self._dimensions},
            taken=taken,
            seen=seen,
        )
