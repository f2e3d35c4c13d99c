"""How minutes add up to hours and days: totals as they stand, and roll-ups of what is closed.

Upstream: the table of `merge.py`. Downstream: `updates.py` writes what changed; `metric-rollups`
keeps what is folded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from streamgauge.streams.metrics.fate import NONE
from streamgauge.streams.metrics.keys import firsts, union
from streamgauge.streams.metrics.merge import (
    DIMENSIONS,
    FOLDED,
    GRAIN,
    OFFSET,
    PARTITION,
    PARTS,
    SIZE,
    SIZES,
    SOURCE,
    START,
    TOTAL,
    USERS,
    MergeState,
    lengthened,
    newest,
    with_window,
)
from streamgauge.streams.metrics.parts import MIN, Entries, combined, pack, slot, unpack
from streamgauge.streams.metrics.plan import Plan
from streamgauge.streams.metrics.runs import Run, joined

Array = np.ndarray

FOLD_MS = 600_000


@dataclass(frozen=True, kw_only=True)
class Rollup:
    """A row of the changelog; of a window that is closed, its tombstone."""

    partition: int
    size: str
    start: int
    version: str
    dimensions: str
    parts: bytes
    users: Mapping[int, int]
    closed: bool


def rows_of(state: MergeState, keys: Array) -> Run:
    """The last rows of these keys, of all sources."""
    which, columns = state.rows.find(keys)
    return newest(Run(key=keys[which], columns=columns))


def folds(state: MergeState, closed_before: Array) -> dict[int, int]:
    """The partitions in which F advances, and how far."""
    upto = closed_before // FOLD_MS * FOLD_MS
    return {
        partition: int(upto[partition])
        for partition, known in state.progress.items()
        if closed_before[partition] > NONE and upto[partition] > known.folded
    }


def folded(
    state: MergeState, folds: Mapping[int, int], plan: Plan
) -> tuple[MergeState, list[Rollup]]:
    """With closed minutes in their hours and days, where F advances."""
    if not folds:
        return state, []
    upto = np.full(max(state.progress) + 1, NONE)
    fold_offset = np.full(len(upto), np.iinfo(np.int64).max)
    for partition, limit in folds.items():
        upto[partition] = limit
        fold_offset[partition] = state.progress[partition].fold_offset

    def closed(run: Run) -> Array:
        return (run.columns[SIZE] == 0) & (run.columns[START] < upto[run.columns[PARTITION]])

    def new_users(run: Run) -> Array:
        is_new = run.columns[OFFSET] >= fold_offset[run.columns[PARTITION]]
        return is_new & (run.columns[USERS] >= 0)

    minutes = newest(state.rows.where(closed))
    longer = [lengthened(with_window(minutes, size, plan), size) for size in (1, 2)]
    keys = union(*(run.key for run in longer))
    folded = _of_source(rows_of(state, keys), FOLDED)
    new = _packed(*summed(joined([folded, *longer])), FOLDED, state)
    touched = union(keys, state.rows.where(new_users).key)
    rows = state.rows.keep(lambda run: ~closed(run)).add(new.key, *new.columns)
    progress = dict(state.progress)
    for partition, limit in folds.items():
        known = state.progress[partition]
        marks = tuple(mark for mark in known.marks if mark[1] >= limit)
        progress[partition] = replace(known, folded=limit, fold_offset=known.offset, marks=marks)
    state = replace(state, rows=rows, progress=progress)
    return state, rollups(rows_of(state, touched), plan)


def applied(state: MergeState, plan: Plan) -> MergeState:
    """With totals of all minutes."""
    changed = union(*state.unapplied)
    now, then = rows_of(state, changed), rows_of(replace(state, rows=state.applied), changed)
    more, less = (
        [lengthened(with_window(minutes, size, plan), size) for size in (1, 2)]
        for minutes in (now, then)
    )
    keys = union(*(run.key for run in more))
    total = _of_source(rows_of(state, keys), TOTAL)
    new = _packed(*summed(joined([total, *more]), less=joined(less)), TOTAL, state)
    return replace(state, rows=state.rows.add(new.key, *new.columns), unapplied=())


def _of_source(run: Run, source: int) -> Run:
    return run.take((run.columns[SOURCE] == source).nonzero()[0])


def _packed(groups: Run, entries: Entries, source: int, state: MergeState) -> Run:
    """Rows of a source of our own with these parts."""
    columns = list(groups.columns)
    offsets = np.zeros(max(state.progress, default=0) + 1, np.int64)
    for partition, known in state.progress.items():
        offsets[partition] = known.offset
    columns[SOURCE] = np.full(len(groups.key), source, np.int32)
    columns[OFFSET] = offsets[columns[PARTITION]]
    columns[USERS] = np.full(len(groups.key), -1)
    columns[PARTS] = np.empty(len(groups.key), object)
    columns[PARTS][:] = pack(entries, len(groups.key))
    return Run(key=groups.key, columns=tuple(columns))


def grouped(run: Run) -> tuple[Run, Array]:
    """One row of each key, and which of them each row belongs to; sorted by key."""
    is_first = firsts(run.key)
    return run.take(is_first.nonzero()[0]), np.cumsum(is_first) - 1


def summed(run: Run, less: Run | None = None) -> tuple[Run, Entries]:
    """One row of each key, and the sum of their parts.

    `less` are rows as they were before: their sums are taken off, their extremes are in the new
    ones as well.
    """
    groups, group = grouped(run)
    entries = _entries(run, group)
    if less is not None and len(less.key):
        before = _entries(less, np.searchsorted(groups.key, less.key))
        sums = before.slot < slot(MIN, 0)
        entries = Entries(
            np.concatenate([entries.row, before.row[sums]]),
            np.concatenate([entries.slot, before.slot[sums]]),
            np.concatenate([entries.value, -before.value[sums]]),
        )
    return groups, combined(entries)


def _entries(run: Run, group: Array) -> Entries:
    """All parts of rows, by the groups that the rows are in."""
    has_parts = np.array([parts is not None for parts in run.columns[PARTS]], bool)
    entries = unpack(run.columns[PARTS][has_parts].tolist())
    return Entries(group[has_parts][entries.row], entries.slot, entries.value)


def rollups(run: Run, plan: Plan, *, closed: bool = False) -> list[Rollup]:
    """Rows of the changelog from hours' and days' rows, sorted by key."""
    groups, group = grouped(run)
    parts = [b""] * len(groups.key)
    users: list[dict[int, int]] = [{} for _ in parts]
    rows = zip(
        group.tolist(), *(run.columns[c].tolist() for c in (SOURCE, USERS, PARTS)), strict=True
    )
    for number, source, count, packed in rows:
        if source == FOLDED:
            parts[number] = packed
        elif source != TOTAL:
            users[number][source] = count
    columns = (groups.columns[c].tolist() for c in (PARTITION, SIZE, START, GRAIN, DIMENSIONS))
    return [
        Rollup(
            partition=partition,
            size=SIZES[size],
            start=start,
            version=plan.grains[grain].version,
            dimensions=dimensions,
            parts=of_parts,
            users=of_users,
            closed=closed,
        )
        for partition, size, start, grain, dimensions, of_parts, of_users in zip(
            *columns, parts, users, strict=True
        )
    ]
