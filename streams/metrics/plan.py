"""From definitions to arithmetic: which rows a batch of events changes, and by how much.

Each distinct selection (event types, conditions, field) is evaluated once for all grains. A grain
groups its events by a 64-bit key of (grain, source partition, minute, dimensions) and adds up
its parts by group number. Everything is additive, so batches may be cut anywhere.

Upstream: accepted events as a wide frame. Downstream: `source.py` keeps the sums.
Invariant: what a batch adds depends on its events alone, not on their order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from streamgauge.schemas.metrics import WINDOW_MS, Definitions, Grain, Selection
from streamgauge.streams.metrics import columns
from streamgauge.streams.metrics.keys import combine, mix, of_strings
from streamgauge.streams.metrics.parts import (
    MIN,
    SUM,
    Part,
    bucket_slots,
    buckets,
    grain_parts,
    slot,
)

Array = np.ndarray

MINUTE_MS = WINDOW_MS["1m"]
ALWAYS = frozenset(
    {"event_type", "timestamp", "event_id", "user_id", "anonymous_id", "consent_analytics"}
)


@dataclass(frozen=True, kw_only=True)
class Observations:
    """What one selection takes from a batch."""

    taken: Array
    """Rows of events that match."""
    seen: Array
    """Rows among them with an observation of the field."""
    values: Array
    """Those observations."""


@dataclass(frozen=True, kw_only=True)
class Addition:
    """What a batch adds; the keys of rows are unique."""

    key: Array
    grain: Array
    row: Array
    """An event of each key, as its place in the frame."""
    entry_key: Array
    entry_slot: Array
    entry_value: Array
    user_key: Array
    user_slot: Array
    user_row: Array
    """Events whose user is to be counted under the key and slot, as their place in the frame."""


class Plan:
    """Definitions, made ready for frames."""

    def __init__(self, definitions: Definitions) -> None:
        self.grains: list[Grain] = definitions.grains()
        self.numbers = {grain.version: number for number, grain in enumerate(self.grains)}
        self.parts: list[tuple[Part, ...]] = [grain_parts(grain) for grain in self.grains]
        self.dimensions = sorted({d for grain in self.grains for d in grain.dimensions})
        self._selections = list(dict.fromkeys(p.selection for ps in self.parts for p in ps))
        self._fields = sorted(
            {field for s in self._selections for field, _ in s.kinds}.union(self.dimensions)
        )
        places = dict.fromkeys((s.events, s.where) for s in self._selections)
        self._places = {place: str(number) for number, place in enumerate(places)}
        self._masks = [
            columns.mask(next(s for s in self._selections if (s.events, s.where) == place)).alias(n)
            for place, n in self._places.items()
        ]
        self.columns: frozenset[str] = columns.needed(self._fields)
        """What has to be decoded, beside what always is."""

    def prepared(self, frame: pl.DataFrame) -> pl.DataFrame:
        """With the derived fields, and the dimensions as text."""
        frame = columns.with_derived(frame, self._fields)
        return frame.with_columns(
            columns.text(frame[dimension]).alias(_text(dimension)) for dimension in self.dimensions
        )

    def addition(
        self, frame: pl.DataFrame, since: Mapping[str, Mapping[int, int]], identifiable: pl.Expr
    ) -> Addition:
        """What these accepted events add; the frame is a prepared one.

        `since` says from when on a version counts, by partition, where not from the beginning.
        """
        observed = self._observe(frame)
        partition = frame["partition"].to_numpy()
        minute = frame["timestamp"].to_numpy() // MINUTE_MS
        base = combine(partition, minute)
        hashes = {d: of_strings(frame[_text(d)]) for d in self.dimensions}
        has_user = frame.select(identifiable & pl.col("user_key").is_not_null()).to_series()
        users = has_user.to_numpy()
        groups = _Groups(len(frame))
        for number, grain in enumerate(self.grains):
            key = mix(base ^ np.uint64(int(grain.version, 16)))
            for dimension in grain.dimensions:
                key = combine(hashes[dimension], key)
            wanted = None
            if begins := since.get(grain.version):
                first = np.array([begins.get(p, -1) for p in partition.tolist()])
                wanted = minute * MINUTE_MS >= first
            groups.add(number, key, self.parts[number], observed, users, wanted)
        return groups.addition()

    def dimension_texts(self, frame: pl.DataFrame, grain: int, rows: Array) -> list[str]:
        """The `dimensions` of these rows of a prepared frame."""
        names = self.grains[grain].dimensions
        if not names:
            return ["{}"] * len(rows)
        texts = frame.select(pl.col(_text(name)).alias(name) for name in names)[rows]
        return texts.select(pl.struct(names).struct.json_encode()).to_series().to_list()

    def _observe(self, frame: pl.DataFrame) -> dict[Selection, Observations]:
        masks = frame.select(self._masks)
        taken = {
            place: masks[name].arg_true().to_numpy().astype(np.int64)
            for place, name in self._places.items()
        }
        found = {}
        for selection in self._selections:
            rows = taken[selection.events, selection.where]
            seen, values = rows, rows
            if selection.field is not None and len(rows):
                column = frame[selection.field].gather(rows)
                mask, values = columns.observed(column, selection.kind)
                seen = rows[mask]
            found[selection] = Observations(taken=rows, seen=seen, values=values)
        return found


class _Groups:
    """Collects the additions of one grain after the other."""

    def __init__(self, size: int) -> None:
        self._code = np.empty(size, np.int64)
        self._keys: list[tuple[Array, ...]] = []
        self._entries: list[tuple[Array, ...]] = []
        self._users: list[tuple[Array, ...]] = []

    def add(
        self,
        grain: int,
        key: Array,
        parts: Sequence[Part],
        observed: Mapping[Selection, Observations],
        users: Array,
        wanted: Array | None,
    ) -> None:
        reads = []
        takes_part = np.zeros(len(key), bool)
        for part in parts:
            rows, values = _rows(part, observed[part.selection], users)
            if wanted is not None and len(rows):
                keep = wanted[rows]
                rows, values = rows[keep], values[keep]
            takes_part[rows] = True
            reads.append((rows, values))
        members = np.flatnonzero(takes_part)
        if not len(members):
            return
        order = members[np.argsort(key[members])]
        ordered = key[order]
        first = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
        code = self._code
        code[order] = np.repeat(np.arange(len(first)), np.diff(np.r_[first, len(order)]))
        keys = ordered[first]
        self._keys.append((keys, np.full(len(keys), grain), order[first]))
        for number, (part, (rows, values)) in enumerate(zip(parts, reads, strict=True)):
            if not len(rows):
                continue
            if part.reads == "user":
                self._users.append((key[rows], np.full(len(rows), slot(SUM, number)), rows))
            elif part.reads == "bucket":
                self._add_buckets(keys, number, code[rows], buckets(values))
            else:
                self._add_sums(keys, number, part, code[rows], values)

    def _add_sums(self, keys: Array, number: int, part: Part, code: Array, values: Array) -> None:
        count = np.bincount(code, minlength=len(keys))
        present = np.flatnonzero(count)
        if part.reads in ("one", "seen"):
            total = count
        elif part.op == SUM:
            total = np.zeros(len(keys), np.int64)
            np.add.at(total, code, columns.scaled(values))
            present = np.flatnonzero(total)
        else:
            worst = np.iinfo(np.int64).max if part.op == MIN else np.iinfo(np.int64).min
            total = np.full(len(keys), worst)
            (np.minimum if part.op == MIN else np.maximum).at(total, code, columns.scaled(values))
        self._add_entries(keys[present], slot(part.op, number), total[present])

    def _add_buckets(self, keys: Array, number: int, code: Array, bucket: Array) -> None:
        low = bucket.min()
        span = int(bucket.max() - low) + 1
        cells, counts = np.unique(code * span + (bucket - low), return_counts=True)
        slots = bucket_slots(number, cells % span + low)
        self._add_entries(keys[cells // span], slots, counts)

    def _add_entries(self, keys: Array, slots: Array | int, values: Array) -> None:
        self._entries.append((keys, np.broadcast_to(slots, keys.shape), values))

    def addition(self) -> Addition:
        key, grain, row = _stacked(self._keys, np.uint64, np.int64, np.int64)
        entry_key, entry_slot, value = _stacked(self._entries, np.uint64, np.uint32, np.int64)
        user_key, user_slot, user_row = _stacked(self._users, np.uint64, np.uint32, np.int64)
        return Addition(
            key=key,
            grain=grain,
            row=row,
            entry_key=entry_key,
            entry_slot=entry_slot,
            entry_value=value,
            user_key=user_key,
            user_slot=user_slot,
            user_row=user_row,
        )


def _rows(part: Part, observations: Observations, users: Array) -> tuple[Array, Array]:
    """The events that a part reads, and what it reads of each."""
    if part.reads == "one":
        return observations.taken, observations.taken
    if part.reads == "user":
        rows = observations.taken[users[observations.taken]]
        return rows, rows
    return observations.seen, observations.values


def _stacked(columns: list[tuple[Array, ...]], *dtypes: type) -> tuple[Array, ...]:
    if not columns:
        return tuple(np.zeros(0, dtype) for dtype in dtypes)
    return tuple(
        np.concatenate(column).astype(dtype, copy=False)
        for column, dtype in zip(zip(*columns, strict=True), dtypes, strict=True)
    )


def _text(dimension: str) -> str:
    """The column with a dimension's values as text."""
    return f"{dimension} as text"
