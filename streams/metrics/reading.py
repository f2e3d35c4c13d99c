"""What definitions read of a batch of events, each thing once for all metrics.

Upstream: the wide frame of decoded events. Downstream: `plan.py`. One polars query reads the
conditions, observations and hashes; the rest is arrays. Types of events are compared by a hash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import polars as pl

from streamgauge.schemas.metrics import WINDOW_MS, Condition, Selection
from streamgauge.streams.metrics import columns
from streamgauge.streams.metrics.numbers import Numbers

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
    taken: Sequence[Array]
    """Rows that each of the reader's selections takes, in the order of the frame."""
    seen: Sequence[tuple[Array, Array]]
    """Rows among them with an observation of the selection's field, and the observations."""


class Reader:
    """Reads frames for these selections and dimensions."""

    def __init__(self, selections: Sequence[Selection], dimensions: Sequence[str]) -> None:
        """Selections are known by their place among these from here on: hashing one costs more
        than what is looked up."""
        self._selections, self._dimensions = selections, dimensions
        fields = sorted({f for s in selections for f, _ in s.kinds}.union(dimensions))
        self.columns: frozenset[str] = columns.needed(fields)
        """What has to be decoded, beside what always is."""
        self._derived = columns.derived(fields)
        self._conditions = {s.where: str(s.where) for s in selections if s.where}
        types = sorted({event for s in selections for event in s.events or ()})
        self._types, self._type_count = Numbers(types), len(types)
        places = list(dict.fromkeys((s.events, s.where) for s in selections))
        self._places = [
            (None if events is None else [types.index(event) for event in events], where)
            for events, where in places
        ]
        self._place = [places.index((s.events, s.where)) for s in selections]
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
        if self._derived:
            frame = frame.with_columns_seq(self._derived)
        query = frame.select_seq(*self._reads, identifiable.alias("identifiable"))
        read = {column.name: column.to_numpy() for column in query.get_columns()}
        all_rows = accepted.nonzero()[0]
        of_type = self._by_type(read["type hash"], all_rows)

        def rows(types: Sequence[int] | None, where: Sequence[Condition]) -> Array:
            found = all_rows
            if types is not None:
                found = of_type[types[0]]
                if len(types) > 1:
                    found = np.sort(np.concatenate([of_type[number] for number in types]))
            return found[read[self._conditions[tuple(where)]][found]] if where else found

        of_place = [rows(*place) for place in self._places]
        taken = [of_place[place] for place in self._place]
        seen = []
        for selection, of_selection in zip(self._selections, taken, strict=True):
            values = of_selection
            if selection.field is not None:
                mask = read[f"{selection.field} seen"][of_selection]
                of_selection = of_selection if mask.all() else of_selection[mask]
                values = read[f"{selection.field} value"][of_selection]
            seen.append((of_selection, values))
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

    def _by_type(self, hashes: Array, rows: Array) -> list[Array]:
        """Of the rows, those of each type, in the order of the frame."""
        number = self._types.of(hashes[rows])
        order = rows[number.argsort(kind="stable")]  # of 16 bits: a radix sort
        ends = np.bincount(number + 1, minlength=self._type_count + 1).cumsum().tolist()
        return [order[low:high] for low, high in pairwise(ends)]
