"""What a batch of events adds to the rows of each grain.

Upstream: `reading.py`. Downstream: `plan.py`, and so `source.py`. A grain's events are sorted by
key once; each part is then added up by the number of its event's key.

Invariant: what a batch adds depends on its events alone, not on their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from streamgauge.streams.metrics import columns
from streamgauge.streams.metrics.keys import firsts
from streamgauge.streams.metrics.parts import MIN, SUM, Part, bucket_slots, buckets, slot
from streamgauge.streams.metrics.reading import Events

Array = np.ndarray


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


class Groups:
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
