"""What a batch of events adds to the rows of each grain.

Upstream: `reading.py`. Downstream: `plan.py`, and so `source.py`. The keys of a grain's events are
numbered once; each part is then added up by the number of its event's key.

Invariant: what a batch adds depends on its events alone, not on their order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np

from streamgauge.schemas.metrics import Selection
from streamgauge.streams.metrics import columns
from streamgauge.streams.metrics.keys import firsts
from streamgauge.streams.metrics.numbers import numbered
from streamgauge.streams.metrics.parts import (
    BUCKET_BITS,
    MIN,
    SUM,
    Part,
    bucket_slots,
    buckets,
    slot,
)
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


class Line(NamedTuple):
    """A part of a grain: what is read for it, and how that is added up."""

    selection: int
    """The reader's number."""
    reads: str
    how: str
    slot: int


def lines_of(parts: Sequence[Part], numbers: Mapping[Selection, int]) -> list[Line]:
    """A grain's parts, with the numbers that the reader has for selections."""
    return [
        Line(numbers[part.selection], part.reads, _how(part), slot(part.op, number))
        for number, part in enumerate(parts)
    ]


def _how(part: Part) -> str:
    if part.reads == "seen":
        return "one"
    return part.reads if part.op == SUM else "least" if part.op == MIN else "most"


class Groups:
    """Collects the additions of one grain after the other."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._code = np.empty(len(events.partition), np.int64)
        self._keys: list[tuple[Array, ...]] = []
        self._users: list[tuple[Array, ...]] = []
        self._cells: dict[str, _Cells] = {}

    def add(
        self,
        grain: int,
        key_of: Callable[[Array], Array],
        lines: Sequence[Line],
        wanted: Array | None,
    ) -> None:
        """`key_of` gives the keys of rows; `wanted` is a mask of those that count."""
        reads = [self._rows(line, wanted) for line in lines]
        takes_part = np.zeros(len(self._code), bool)
        for rows in {id(rows): rows for rows, _ in reads}.values():
            takes_part[rows] = True
        members = takes_part.nonzero()[0]
        if not len(members):
            return
        key = key_of(members)
        one, number = numbered(key)
        code, keys = self._code, key.take(one)
        code[members] = number
        self._keys.append((keys, np.full(len(keys), grain), members.take(one)))
        codes: dict[int, Array] = {}
        for line, (rows, values) in zip(lines, reads, strict=True):
            if not len(rows):
                continue
            if id(rows) not in codes:
                codes[id(rows)] = code.take(rows)
            if line.reads == "user":
                user_keys = keys.take(codes[id(rows)])
                self._users.append((user_keys, np.full(len(rows), line.slot), rows))
            else:
                cells = self._cells.setdefault(line.how, _Cells())
                cells.add(keys, line.slot, codes[id(rows)], values)

    def _rows(self, line: Line, wanted: Array | None) -> tuple[Array, Array]:
        """The events that a line reads, and what it reads of each."""
        if line.reads in ("one", "user"):
            rows = self._events.taken[line.selection]
            if line.reads == "user":
                rows = rows[self._events.has_user[rows]]
            values = rows
        else:
            rows, values = self._events.seen[line.selection]
        if wanted is not None and len(rows):
            keep = wanted[rows]
            rows, values = rows[keep], values[keep]
        return rows, values

    def addition(self) -> Addition:
        key, grain, row = _stacked(self._keys, np.uint64, np.int64, np.int64)
        entries = [_ADD[how](cells) for how, cells in self._cells.items()]
        entry_key, entry_slot, value = _stacked(entries, np.uint64, np.uint32, np.int64)
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


class _Cells:
    """What several parts add up in the same way: a cell for each part and key.

    All of them are added up at once: of sixty parts each costs more calls than arithmetic.
    """

    def __init__(self) -> None:
        self._keys: list[Array] = []
        self._slots: list[int] = []
        self._codes: list[Array] = []
        self.values: list[Array] = []

    def add(self, keys: Array, slot: int, codes: Array, values: Array) -> None:
        """What a part reads: values, and of each which of the keys it is of."""
        self._keys.append(keys)
        self._slots.append(slot)
        self._codes.append(codes)
        self.values.append(values)

    def stacked(self) -> tuple[Array, Array, Array]:
        """Of each cell its key and slot; and the cell of each value."""
        sizes = np.array([len(keys) for keys in self._keys])
        begin = sizes.cumsum() - sizes
        cell = np.concatenate(self._codes)
        cell += begin.repeat([len(codes) for codes in self._codes])
        return np.concatenate(self._keys), np.array(self._slots).repeat(sizes), cell


def _counts(cells: _Cells) -> tuple[Array, ...]:
    key, slots, cell = cells.stacked()
    count = np.bincount(cell)
    present = count.nonzero()[0]
    return key[present], slots[present], count[present]


def _sums(cells: _Cells) -> tuple[Array, ...]:
    key, slots, cell = cells.stacked()
    total = np.zeros(len(key), np.int64)
    np.add.at(total, cell, np.concatenate([columns.scaled(values) for values in cells.values]))
    present = total.nonzero()[0]
    return key[present], slots[present], total[present]


def _extremes(cells: _Cells, of: np.ufunc, worst: int) -> tuple[Array, ...]:
    key, slots, cell = cells.stacked()
    total = np.full(len(key), worst)
    of.at(total, cell, np.concatenate([columns.scaled(values) for values in cells.values]))
    present = (total != worst).nonzero()[0]
    return key[present], slots[present], total[present]


def _bucket_counts(cells: _Cells) -> tuple[Array, ...]:
    key, slots, cell = cells.stacked()
    bucket = bucket_slots(0, buckets(np.concatenate(cells.values)))
    ordered = np.sort(cell << BUCKET_BITS | bucket)
    first = firsts(ordered).nonzero()[0]
    count = np.diff(first, append=len(ordered))
    cell, bucket = np.divmod(ordered[first], 1 << BUCKET_BITS)
    return key[cell], slots[cell] + bucket, count


_ADD: Mapping[str, Callable[[_Cells], tuple[Array, ...]]] = {
    "one": _counts,
    "value": _sums,
    "least": partial(_extremes, of=np.minimum, worst=np.iinfo(np.int64).max),
    "most": partial(_extremes, of=np.maximum, worst=np.iinfo(np.int64).min),
    "bucket": _bucket_counts,
}


def _stacked(columns: list[tuple[Array, ...]], *dtypes: type) -> tuple[Array, ...]:
    if not columns:
        return tuple(np.zeros(0, dtype) for dtype in dtypes)
    return tuple(
        np.concatenate(column).astype(dtype, copy=False)
        for column, dtype in zip(zip(*columns, strict=True), dtypes, strict=True)
    )
