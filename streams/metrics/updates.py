"""What the second stage writes at a barrier: metrics that changed, and roll-ups at a fold.

Upstream: `merge.py`. Downstream: `tasks.py` encodes it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from streamgauge.schemas.metrics import WINDOW_MS
from streamgauge.streams.metrics import fold
from streamgauge.streams.metrics.fate import NONE
from streamgauge.streams.metrics.fold import Rollup, grouped, rows_of, summed
from streamgauge.streams.metrics.keys import among, firsts, union
from streamgauge.streams.metrics.merge import (
    DIMENSIONS,
    FOLDED,
    GRAIN,
    PARTITION,
    SIZE,
    SIZE_MS,
    SIZES,
    SOURCE,
    START,
    USERS,
    MergeState,
    Settings,
    with_window,
)
from streamgauge.streams.metrics.runs import Run

Array = np.ndarray

_SCHEMA: dict[str, Any] = {
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
_NO_UPDATES = pl.DataFrame(schema=_SCHEMA)


def flush(
    state: MergeState, settings: Settings, *, longer_due: bool = True
) -> tuple[MergeState, pl.DataFrame, list[Rollup]]:
    """The rows of `metrics` to write, with the columns of MetricUpdate, and of the changelog."""
    least = np.full(max(state.progress, default=0) + 1, NONE)
    for partition, known in state.progress.items():
        least[partition] = known.least(settings.sources)
    closed_before = least - settings.lateness

    closing = _closing(state, closed_before, settings.lateness, 0)
    minutes = with_window(rows_of(state, union(*state.minutes, closing)), 0, settings.plan)
    updates = [_updates(minutes, least, state, settings)]

    rollups: list[Rollup] = []
    folds = fold.folds(state, closed_before)
    if longer_due or folds:
        state = fold.applied(state, settings.plan)
        state, rollups = fold.folded(state, folds, settings.plan)
        # Whatever closes here has been folded: an hour ends where a fold does.
        closing = union(_closing(state, closed_before, settings.lateness, 1))
        longer = rows_of(state, union(closing, *state.longer))
        updates.append(_updates(longer, least, state, settings))
        closed = longer.take(among(longer.key, closing).nonzero()[0])
        rollups += fold.rollups(closed, settings.plan, closed=True)
        rows = state.rows
        if len(closing):
            rows = rows.keep(lambda run: ~among(run.key, closing))
        state = replace(state, rows=rows, applied=rows, longer=())
    sent = {}
    for partition, known in state.progress.items():
        long_ago = closed_before[partition] - WINDOW_MS["1d"]
        since = {version: begun for version, begun in known.since.items() if begun > long_ago}
        sent[partition] = replace(known, sent=int(least[partition]), since=since)
    state = replace(state, minutes=(), progress=sent)
    return state, updates[0] if len(updates) == 1 else pl.concat(updates), rollups


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


def _updates(run: Run, least: Array, state: MergeState, settings: Settings) -> pl.DataFrame:
    """The metrics of rows of minutes, or of hours and days, sorted by key."""
    run = run.take((run.columns[SOURCE] != FOLDED).nonzero()[0])
    groups, entries = summed(run)
    partition, grain, size, start = (groups.columns[c] for c in (PARTITION, GRAIN, SIZE, START))
    users = _users(run, size)
    if not len(grain):
        return _NO_UPDATES
    values = settings.results.values(entries, grain, users)
    end = start + SIZE_MS[size]
    at = least[partition]
    is_final = at >= end + settings.lateness
    begun = _begun(groups, state, settings)
    kept = begun[values.row].nonzero()[0]
    row, series, numerator, denominator = (column[kept] for column in values[:4])
    wanted = row[firsts(row)]
    if not len(wanted):
        return _NO_UPDATES
    lines = pl.DataFrame(
        [
            pl.Series("row", row).set_sorted(),
            pl.Series("metrics", settings.results.names[series].tolist(), pl.String),
            pl.Series("values", numerator / denominator),
            pl.Series("numerators", numerator),
            pl.Series("denominators", denominator),
        ]
    )
    lists = lines.group_by("row", maintain_order=True).agg(pl.all())
    sizes, grains, users = (column[wanted].tolist() for column in (size, grain, values.users))
    last = np.where(is_final, end + settings.lateness, at)[wanted].tolist()
    versions = [each.version for each in settings.plan.grains]
    of_row: dict[str, Any] = {
        "window_start": start[wanted],
        "window_size": [SIZES[number] for number in sizes],
        "dimensions": groups.columns[DIMENSIONS][wanted].tolist(),
        "version": [versions[number] for number in grains],
        "users": [None if count == -1 else count for count in users],
        "is_final": is_final[wanted],
        "watermark": [None if watermark == NONE else watermark for watermark in last],
    }
    # Series of known types: a frame that has to find them out costs several times as much.
    made = [pl.Series(name, of, _SCHEMA[name]) for name, of in of_row.items()]
    return pl.DataFrame([*made, *lists.get_columns()[1:]])


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
    _, group = grouped(run)
    counts = run.columns[USERS]
    known = np.flatnonzero(counts >= 0)
    users = np.zeros(len(size), np.int64)
    np.add.at(users, group[known], counts[known])
    return np.where(size == 0, -1, users)
