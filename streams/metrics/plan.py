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
from json.encoder import encode_basestring

import numpy as np
import polars as pl

from streamgauge.schemas.metrics import WINDOW_MS, Definitions, Grain, Selection
from streamgauge.streams.metrics import columns
from streamgauge.streams.metrics.keys import combine, firsts, mix
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
class Events:
    """What definitions read of the accepted events of a frame; rows are places in the frame."""

    frame: pl.DataFrame
    partition: Array
    minute: Array
    """Minutes since the epoch."""
    has_user: Array
    user: Array
    """A hash of who it was."""
    hashes: Mapping[str, Array]
    """Of each dimension's values."""
    taken: Mapping[Selection, Array]
    """Rows that a selection takes."""
    seen: Mapping[Selection, tuple[Array, Array]]
    """Rows among them with an observation of the selection's field, and the observations."""


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
        fields = sorted({f for s in self._selections for f, _ in s.kinds}.union(self.dimensions))
        self.columns: frozenset[str] = columns.needed(fields)
        """What has to be decoded, beside what always is."""
        self._derived = columns.derived(fields)
        self._reads = self._expressions()

    def _expressions(self) -> list[pl.Expr]:
        """All that is read of a frame, under names that cannot be those of its columns."""
        reads = [
            pl.col("user_key").hash(0).alias("user hash"),
            pl.col("user_key").is_not_null().alias("has user"),
        ]
        reads += [pl.col(d).cast(pl.String).hash(0).alias(f"{d} hash") for d in self.dimensions]
        for selection in self._selections:
            reads.append(columns.mask(selection).alias(_taken(selection)))
            if selection.field is not None and selection.kind is not None:
                seen, value = columns.observed(selection.field, selection.kind)
                reads += [
                    seen.alias(f"{selection.field} seen"),
                    value.alias(f"{selection.field} value"),
                ]
        return list({read.meta.output_name(): read for read in reads}.values())

    def events(self, frame: pl.DataFrame, accepted: Array, identifiable: pl.Expr) -> Events:
        """Reads a frame; `accepted` is a mask of its rows."""
        frame = frame.with_columns(self._derived)
        read = frame.select(*self._reads, identifiable.alias("identifiable"))
        seen_fields = {
            name: read[name].to_numpy()
            for name in read.columns
            if name.endswith((" seen", " value"))
        }
        rows = {
            name: (read[name].to_numpy() & accepted).nonzero()[0]
            for name in {_taken(selection) for selection in self._selections}
        }
        taken = {selection: rows[_taken(selection)] for selection in self._selections}
        seen = {}
        for selection, of_selection in taken.items():
            if selection.field is not None:
                mask = seen_fields[f"{selection.field} seen"][of_selection]
                of_selection = of_selection if mask.all() else of_selection[mask]
                seen[selection] = (
                    of_selection,
                    seen_fields[f"{selection.field} value"][of_selection],
                )
        return Events(
            frame=frame,
            partition=frame["partition"].to_numpy(),
            minute=frame["timestamp"].to_numpy() // MINUTE_MS,
            has_user=(read["has user"] & read["identifiable"]).to_numpy(),
            user=read["user hash"].to_numpy(),
            hashes={
                dimension: read[f"{dimension} hash"].to_numpy() for dimension in self.dimensions
            },
            taken=taken,
            seen=seen,
        )

    def addition(self, events: Events, since: Mapping[str, Mapping[int, int]]) -> Addition:
        """What events add.

        `since` says from when on a version counts, by partition, where not from the beginning.
        """
        base = combine(events.partition, events.minute)
        groups = _Groups(events)
        for number, grain in enumerate(self.grains):
            key = mix(base ^ np.uint64(int(grain.version, 16)))
            for dimension in grain.dimensions:
                key = combine(events.hashes[dimension], key)
            wanted = None
            if begins := since.get(grain.version):
                first = np.array([begins.get(p, -1) for p in events.partition.tolist()])
                wanted = events.minute * MINUTE_MS >= first
            groups.add(number, key, self.parts[number], wanted)
        return groups.addition()

    def dimension_texts(self, events: Events, grain: Array, rows: Array) -> Array:
        """The `dimensions` of rows, each of the grain beside it."""
        texts = np.full(len(rows), "{}", object)
        if not self.dimensions:
            return texts
        values = events.frame.select(
            pl.col(name).gather(rows).cast(pl.String) for name in self.dimensions
        )
        columns_of = {name: values[name].to_list() for name in self.dimensions}
        for number in np.unique(grain).tolist():
            names = self.grains[number].dimensions
            for place in (grain == number).nonzero()[0].tolist() if names else ():
                pairs = ((name, columns_of[name][place]) for name in names)
                texts[place] = "{" + ",".join(f"{_json(n)}:{_json(v)}" for n, v in pairs) + "}"
        return texts


class _Groups:
    """Collects the additions of one grain after the other."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._code = np.empty(len(events.partition), np.int64)
        self._keys: list[tuple[Array, ...]] = []
        self._entries: list[tuple[Array, ...]] = []
        self._users: list[tuple[Array, ...]] = []

    def add(self, grain: int, key: Array, parts: Sequence[Part], wanted: Array | None) -> None:
        reads = []
        takes_part = np.zeros(len(key), bool)
        for part in parts:
            rows, values = self._rows(part)
            if wanted is not None and len(rows):
                keep = wanted[rows]
                rows, values = rows[keep], values[keep]
            takes_part[rows] = True
            reads.append((rows, values))
        members = takes_part.nonzero()[0]
        if not len(members):
            return
        order = members[key[members].argsort()]
        ordered = key[order]
        is_first = firsts(ordered)
        first = is_first.nonzero()[0]
        code = self._code
        code[order] = is_first.cumsum() - 1
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

    def _rows(self, part: Part) -> tuple[Array, Array]:
        """The events that a part reads, and what it reads of each."""
        if part.reads == "one":
            rows = self._events.taken[part.selection]
            return rows, rows
        if part.reads == "user":
            rows = self._events.taken[part.selection]
            rows = rows[self._events.has_user[rows]]
            return rows, rows
        return self._events.seen[part.selection]

    def _add_sums(self, keys: Array, number: int, part: Part, code: Array, values: Array) -> None:
        count = np.bincount(code, minlength=len(keys))
        present = count.nonzero()[0]
        if part.reads in ("one", "seen"):
            total = count
        elif part.op == SUM:
            total = np.zeros(len(keys), np.int64)
            np.add.at(total, code, columns.scaled(values))
            present = total.nonzero()[0]
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
        self._entries.append((keys, np.full(len(keys), slots), values))

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


def _stacked(columns: list[tuple[Array, ...]], *dtypes: type) -> tuple[Array, ...]:
    if not columns:
        return tuple(np.zeros(0, dtype) for dtype in dtypes)
    return tuple(
        np.concatenate(column).astype(dtype, copy=False)
        for column, dtype in zip(zip(*columns, strict=True), dtypes, strict=True)
    )


def _taken(selection: Selection) -> str:
    """The column with a selection's mask; one for all that take the same events."""
    return f"{selection.events} {selection.where}"


def _json(text: str | None) -> str:
    return "null" if text is None else encode_basestring(text)
