"""What the second stage writes at a barrier: metrics that changed, and roll-ups at a fold.

Upstream: `merge.py`. Downstream: `tasks.py` encodes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from streamgauge.schemas.metrics import WINDOW_MS
from streamgauge.streams.metrics.fate import NONE
from streamgauge.streams.metrics.keys import firsts
from streamgauge.streams.metrics.merge import (
    DIMENSIONS,
    FOLDED,
    GRAIN,
    OFFSET,
    PARTITION,
    PARTS,
    SIZE,
    SIZE_MS,
    SIZES,
    SOURCE,
    START,
    TOTAL,
    USERS,
    MergeState,
    Settings,
    lengthened,
    newest,
    with_window,
)
from streamgauge.streams.metrics.parts import MIN, Entries, combined, pack, slot, unpack
from streamgauge.streams.metrics.plan import Plan
from streamgauge.streams.metrics.runs import Run

Array = np.ndarray

FOLD_MS = 600_000

_NO_UPDATES = pl.DataFrame(
    schema={
        "window_start": pl.Int64,
        "window_size": pl.String,
        "dimensions": pl.String,
        "version": pl.String,
        "users": pl.Int64,
        "is_final": pl.Boolean,
        "watermark": pl.Int64,
        "metrics": pl.List(pl.String),
        "values": pl.List(pl.Float64),
        "numerators": pl.List(pl.Float64),
        "denominators": pl.List(pl.Float64),
    }
)


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


def flush(
    state: MergeState, settings: Settings, *, longer_due: bool = True
) -> tuple[MergeState, pl.DataFrame, list[Rollup]]:
    """The rows of `metrics` to write, with the columns of MetricUpdate, and of the changelog."""
    least = np.full(max(state.progress, default=0) + 1, NONE)
    for partition, known in state.progress.items():
        least[partition] = known.least(settings.sources)
    closed_before = least - settings.lateness

    closing = _closing(state, closed_before, settings.lateness, 0)
    minutes = with_window(_rows_of(state, _unique(*state.minutes, closing)), 0, settings.plan)
    updates = [_updates(minutes, least, state, settings)]

    rollups: list[Rollup] = []
    folds = _folds(state, closed_before)
    if longer_due or folds:
        state = _applied(state, settings.plan)
        state, rollups = _folded(state, folds, settings.plan)
        # Whatever closes here has been folded: an hour ends where a fold does.
        closing = _unique(_closing(state, closed_before, settings.lateness, 1))
        longer = _rows_of(state, _unique(closing, *state.longer))
        updates.append(_updates(longer, least, state, settings))
        closed = longer.take(np.isin(longer.key, closing).nonzero()[0])
        rollups += _rollups(closed, settings.plan, closed=True)
        rows = state.rows
        if len(closing):
            rows = rows.keep(lambda run: ~np.isin(run.key, closing))
        state = replace(state, rows=rows, applied=rows, longer=())
    sent = {}
    for partition, known in state.progress.items():
        long_ago = closed_before[partition] - WINDOW_MS["1d"]
        since = {version: begun for version, begun in known.since.items() if begun > long_ago}
        sent[partition] = replace(known, sent=int(least[partition]), since=since)
    state = replace(state, minutes=(), progress=sent)
    return state, pl.concat(updates), rollups


def _unique(*keys: Array) -> Array:
    return np.unique(np.concatenate([np.zeros(0, np.uint64), *keys]))


def _rows_of(state: MergeState, keys: Array) -> Run:
    """The last rows of these keys, of all sources."""
    which, columns = state.rows.find(keys)
    return newest(Run(key=keys[which], columns=columns))


def _closing(state: MergeState, closed_before: Array, lateness: int, size: int) -> Array:
    """Keys of minutes (0), or of hours and days (1), that closed since the last flush."""
    sent = np.full(len(closed_before), NONE)
    for partition, progress in state.progress.items():
        sent[partition] = progress.sent - lateness
    step = SIZE_MS[size]
    if not (closed_before // step > sent // step).any():
        return np.zeros(0, np.uint64)

    def wanted(run: Run) -> Array:
        partition, sizes = run.columns[PARTITION], run.columns[SIZE]
        end = run.columns[START] + SIZE_MS[sizes]
        closes = (end <= closed_before[partition]) & (end > sent[partition])
        return closes & (sizes == 0 if size == 0 else sizes > 0)

    return state.rows.where(wanted).key


def _folds(state: MergeState, closed_before: Array) -> dict[int, int]:
    """The partitions in which F advances, and how far."""
    upto = closed_before // FOLD_MS * FOLD_MS
    return {
        partition: int(upto[partition])
        for partition, known in state.progress.items()
        if closed_before[partition] > NONE and upto[partition] > known.folded
    }


def _folded(
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
    keys = _unique(*(run.key for run in longer))
    folded = _of_source(_rows_of(state, keys), FOLDED)
    new = _packed(*_summed(_stacked(folded, *longer)), FOLDED, state)
    touched = _unique(keys, state.rows.where(new_users).key)
    rows = state.rows.keep(lambda run: ~closed(run)).add(new.key, *new.columns)
    progress = dict(state.progress)
    for partition, limit in folds.items():
        known = state.progress[partition]
        marks = tuple(mark for mark in known.marks if mark[1] >= limit)
        progress[partition] = replace(known, folded=limit, fold_offset=known.offset, marks=marks)
    state = replace(state, rows=rows, progress=progress)
    return state, _rollups(_rows_of(state, touched), plan)


def _applied(state: MergeState, plan: Plan) -> MergeState:
    """With totals of all minutes."""
    changed = _unique(*state.unapplied)
    now, then = _rows_of(state, changed), _rows_of(replace(state, rows=state.applied), changed)
    more, less = (
        [lengthened(with_window(minutes, size, plan), size) for size in (1, 2)]
        for minutes in (now, then)
    )
    keys = _unique(*(run.key for run in more))
    total = _of_source(_rows_of(state, keys), TOTAL)
    new = _packed(*_summed(_stacked(total, *more), less=_stacked(*less)), TOTAL, state)
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


def _stacked(*runs: Run) -> Run:
    """All rows, sorted by key."""
    stacked = Run(
        key=np.concatenate([run.key for run in runs]),
        columns=tuple(map(np.concatenate, zip(*(run.columns for run in runs), strict=True))),
    )
    return stacked.take(np.argsort(stacked.key, kind="stable"))


def _grouped(run: Run) -> tuple[Run, Array]:
    """One row of each key, and which of them each row belongs to; sorted by key."""
    is_first = firsts(run.key)
    return run.take(is_first.nonzero()[0]), np.cumsum(is_first) - 1


def _summed(run: Run, less: Run | None = None) -> tuple[Run, Entries]:
    """One row of each key, and the sum of their parts.

    `less` are rows as they were before: their sums are taken off, their extremes are in the new
    ones as well.
    """
    groups, group = _grouped(run)
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


def _rollups(run: Run, plan: Plan, *, closed: bool = False) -> list[Rollup]:
    """Rows of the changelog from hours' and days' rows, sorted by key."""
    groups, group = _grouped(run)
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


def _updates(run: Run, least: Array, state: MergeState, settings: Settings) -> pl.DataFrame:
    """The metrics of rows of minutes, or of hours and days, sorted by key."""
    run = run.take((run.columns[SOURCE] != FOLDED).nonzero()[0])
    groups, entries = _summed(run)
    partition, grain, size, start = (groups.columns[c] for c in (PARTITION, GRAIN, SIZE, START))
    users = _users(run, size)
    rows, names, numerators, denominators = [], [], [], []
    for number in np.unique(grain).tolist():
        mine = np.flatnonzero(grain == number)
        place = np.full(len(groups.key), -1)
        place[mine] = np.arange(len(mine))
        row = place[entries.row]
        of_grain = Entries(*(column[row >= 0] for column in (row, entries.slot, entries.value)))
        values = settings.results[number].values(of_grain, len(mine), users[mine])
        users[mine] = values.users
        rows.append(mine[values.row])
        names.append(values.name)
        numerators.append(values.numerator)
        denominators.append(values.denominator)
    if not rows:
        return _NO_UPDATES
    end = start + SIZE_MS[size]
    at = least[partition]
    is_final = at >= end + settings.lateness
    begun = _begun(groups, state, settings)
    table = pl.DataFrame(
        {
            "window_start": start,
            "window_size": np.array(SIZES, object)[size].tolist(),
            "dimensions": groups.columns[DIMENSIONS].tolist(),
            "version": [settings.plan.grains[number].version for number in grain.tolist()],
            "users": users,
            "is_final": is_final,
            "watermark": np.where(is_final, end + settings.lateness, at),
            "row": np.arange(len(start)),
        }
    ).with_columns(
        pl.col("users").replace(-1, None),
        pl.col("watermark").replace(NONE, None),
    )
    numerator, denominator = np.concatenate(numerators), np.concatenate(denominators)
    values_of_rows = (
        pl.DataFrame(
            {
                "row": np.concatenate(rows),
                "metrics": np.concatenate(names).tolist(),
                "values": numerator / denominator,
                "numerators": numerator,
                "denominators": denominator,
            }
        )
        .group_by("row", maintain_order=True)
        .agg(pl.all())
    )
    wanted = table.filter(pl.Series(begun))
    return wanted.join(values_of_rows, on="row", maintain_order="left").select(_NO_UPDATES.columns)


def _begun(groups: Run, state: MergeState, settings: Settings) -> Array:
    """Whether all of a row's window lies after its version began, in every source partition."""
    begun = np.ones(len(groups.key), bool)
    for partition, progress in state.progress.items():
        for version, since in progress.since.items():
            if version in settings.plan.numbers:
                begun &= (
                    (groups.columns[PARTITION] != partition)
                    | (groups.columns[GRAIN] != settings.plan.numbers[version])
                    | (groups.columns[START] >= since)
                )
    return begun


def _users(run: Run, size: Array) -> Array:
    """Distinct users of each hour and day; -1 for minutes, whose parts have them."""
    _, group = _grouped(run)
    counts = run.columns[USERS]
    known = np.flatnonzero(counts >= 0)
    users = np.zeros(len(size), np.int64)
    np.add.at(users, group[known], counts[known])
    return np.where(size == 0, -1, users)
