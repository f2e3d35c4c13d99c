"""The second stage of metrics: the source partitions' partials, added up.

Upstream: `metric-partials`. Downstream: `metrics`, and the changelog `metric-rollups`. All rows of
a version and its dimensions are in one partition of `metric-partials`, whatever source partition
and window they are of. One table holds the last row of each (key, source):

    size 1m      source s    a source partition's minute: parts, and the offset it came from
    size 1h, 1d  source s    a source partition's distinct users
    size 1h, 1d  FOLDED      the parts of minutes that are closed and forgotten
    size 1h, 1d  TOTAL       the parts of all minutes, as they were when hours were last written

    minutes   ... ######## | closed ++++++ | open ++++ ...      # folded, + in the table
                  folded -> F              ^ least watermark - L

A minute is closed once the least watermark over all source partitions is at its end + L; one that
has not reported has none. Closed minutes are folded into their hour and day when F advances, in
steps of ten minutes, and forgotten; then, and only then, hours and days go to the changelog. What
is not in it is read again from the first batch that had a row of a window at F or later.

Totals are brought up to date by what the minutes that changed have more than they had then; the
table as it was then is at hand, for tables never change.

Invariants: what is written follows from the last row of each (key, source), so reading rows again
changes nothing; a final row never changes; what is throttled gets out at a fold, or when it
closes, or when the throttle passes.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from streamgauge.schemas.metric_records import MetricRollup
from streamgauge.schemas.metrics import WINDOW_MS
from streamgauge.streams.metrics.fate import NONE
from streamgauge.streams.metrics.keys import combine, distinct, mix, of_strings
from streamgauge.streams.metrics.numbers import Numbers
from streamgauge.streams.metrics.plan import Plan
from streamgauge.streams.metrics.progress import Progress
from streamgauge.streams.metrics.results import Results
from streamgauge.streams.metrics.runs import Run, Runs

Array = np.ndarray

FOLDED, TOTAL = -1, -2
SIZES = tuple(WINDOW_MS)
SIZE_MS = np.array([WINDOW_MS[size] for size in SIZES])
_SIZE_NUMBERS = Numbers(SIZES)
RESTORED = -1
"""The offset of rows from the changelog: before all others."""

# Columns of the table.
PARTITION, SOURCE, GRAIN, SIZE, START, OFFSET, USERS, HASH, DIMENSIONS, PARTS = range(10)
_DTYPES: tuple[type, ...] = (
    *(np.int32, np.int32, np.int32, np.int8, np.int64, np.int64, np.int64, np.uint64),
    *(object, object),
)


def newest(run: Run) -> Run:
    """The last row of each key and source; sorted by key."""
    order = np.lexsort((run.columns[OFFSET], run.columns[SOURCE], run.key))
    key, source = run.key[order], run.columns[SOURCE][order]
    last = np.ones(len(key), bool)
    last[:-1] = (key[1:] != key[:-1]) | (source[1:] != source[:-1])
    return run.take(order[last])


_EMPTY = Runs(dtypes=_DTYPES, fold=newest)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the results depend on, beside the partials."""

    plan: Plan
    lateness: int
    sources: int
    """How many source partitions there are."""

    @cached_property
    def grain_numbers(self) -> Numbers:
        return Numbers(list(self.plan.numbers))

    @cached_property
    def results(self) -> Results:
        return Results(self.plan.grains)


@dataclass(frozen=True, kw_only=True)
class MergeState:
    """Everything that the stage knows; never changed in place."""

    progress: Mapping[int, Progress] = field(default_factory=dict)
    rows: Runs = _EMPTY
    minutes: tuple[Array, ...] = ()
    """Keys of minutes that changed since the last flush."""
    longer: tuple[Array, ...] = ()
    """Keys of hours and days that changed since they were written last."""
    applied: Runs = _EMPTY
    """The table of which totals are."""
    unapplied: tuple[Array, ...] = ()
    """Keys of minutes that changed since then."""

    @property
    def settled(self) -> bool:
        """Whether everything has gone out."""
        return not self.minutes and not self.longer


def step(
    state: MergeState, frame: pl.DataFrame, settings: Settings, *, replay: bool = False
) -> MergeState:
    """The state after a batch of partials.

    Minutes that are read again went out when they were read first; hours and days may have been
    held back. Rows of windows that are folded or closed can only be ones that are read again.
    """
    plan = settings.plan
    if not frame.height:
        return state
    read = {column.name: column.to_numpy() for column in frame.select_seq(_READ).get_columns()}
    progress = _with_watermarks(state.progress, frame, read)
    partition_of, start = read["partition"], read["window_start"]
    size_of = _SIZE_NUMBERS.of(read["size hash"])
    # -1 also for versions that are not defined any more.
    grain = settings.grain_numbers.of(read["version hash"])
    size = max(*progress, int(partition_of.max()), 0) + 1
    folded, closed = np.full(size, NONE), np.full(size, NONE)
    for partition, known in progress.items():
        folded[partition], closed[partition] = known.folded, known.sent - settings.lateness
    end = start + SIZE_MS[size_of]
    is_open = np.where(size_of == 0, start >= folded[partition_of], end > closed[partition_of])
    wanted = (is_open & (size_of >= 0) & (grain >= 0)).nonzero()[0]
    columns = _columns(frame, read, grain, size_of, wanted)

    keys = row_keys(columns[HASH], columns[GRAIN], columns[SIZE], columns[START])
    minute = columns[SIZE] == 0
    dimensions, grain, start = (columns[at][minute] for at in (HASH, GRAIN, START))
    longer = [_longer_keys(dimensions, grain, start, size, plan) for size in (1, 2)]
    changed, minutes = np.concatenate([keys[~minute], *longer]), keys[minute]
    return replace(
        state,
        progress=_with_marks(progress, frame, columns),
        rows=state.rows.add(keys, *columns),
        minutes=(*state.minutes, minutes) if len(minutes) and not replay else state.minutes,
        longer=(*state.longer, changed) if len(changed) else state.longer,
        unapplied=(*state.unapplied, minutes) if len(minutes) else state.unapplied,
    )


def _longer_keys(dimensions: Array, grain: Array, start: Array, size: int, plan: Plan) -> Array:
    """Keys of the hours or days that minutes are in."""
    has = _has_window(size, plan)[grain]
    start = start[has]
    return distinct(
        row_keys(dimensions[has], grain[has], np.int8(size), start - start % SIZE_MS[size])
    )


def _has_window(size: int, plan: Plan) -> Array:
    """Whether each grain has windows of this size."""
    return np.array([SIZES[size] in grain.windows for grain in plan.grains])


def with_window(minutes: Run, size: int, plan: Plan) -> Run:
    """The minutes of grains that have windows of this size."""
    return minutes.take(np.flatnonzero(_has_window(size, plan)[minutes.columns[GRAIN]]))


def lengthened(minutes: Run, size: int) -> Run:
    """Minutes as contributions to their hours or days."""
    columns = list(minutes.columns)
    columns[START] = columns[START] - columns[START] % SIZE_MS[size]
    columns[SIZE] = np.full(len(minutes.key), size, np.int8)
    key = row_keys(columns[HASH], columns[GRAIN], columns[SIZE], columns[START])
    return Run(key=key, columns=tuple(columns))


def row_keys(dimensions: Array, grain: Array, size: Array | np.int8, start: Array) -> Array:
    """Keys of rows, from the hashes of their dimensions."""
    return combine(dimensions, mix(start * 8 + size) ^ mix(grain))


_READ = [
    *("partition", "source_partition", "offset", pl.col("window_start", "watermark").fill_null(0)),
    pl.col("users").fill_null(-1),
    pl.col("window_size").is_null().alias("is watermark"),
    pl.col("window_size").hash(0).alias("size hash"),
    pl.col("version").hash(0).alias("version hash"),
    pl.col("dimensions").hash(0).alias("dimensions hash"),
]
"""What is read of partials, in one query."""


def _columns(
    frame: pl.DataFrame, read: Mapping[str, Array], grain: Array, size: Array, rows: Array
) -> tuple[Array, ...]:
    """The columns of the table, of these rows of partials."""
    columns = [read["partition"], read["source_partition"], grain, size, read["window_start"]]
    columns += [read["offset"], read["users"], read["dimensions hash"]]
    columns += [_objects(frame[name].to_list()) for name in ("dimensions", "parts")]
    return tuple(c.take(rows).astype(d, copy=False) for c, d in zip(columns, _DTYPES, strict=True))


def _objects(values: list[Any]) -> Array:
    objects = np.empty(len(values), object)
    objects[:] = values
    return objects


def _with_watermarks(
    progress: Mapping[int, Progress], frame: pl.DataFrame, read: Mapping[str, Array]
) -> dict[int, Progress]:
    changed = dict(progress)
    rows = read["is watermark"].nonzero()[0]
    names = ("partition", "source_partition", "watermark")
    columns = [read[name][rows].tolist() for name in names]
    begun_of = frame["since"].to_list()
    for row, partition, source, watermark in zip(rows.tolist(), *columns, strict=True):
        since = begun_of[row]
        known = changed.get(partition) or Progress()
        watermarks = dict(known.watermarks)
        watermarks[source] = max(watermark, watermarks.get(source, NONE))
        begun = dict(known.since)
        for version, start in (json.loads(since) if since else {}).items():
            begun[version] = max(start, begun.get(version, NONE))
        changed[partition] = replace(known, watermarks=watermarks, since=begun)
    return changed


def _with_marks(
    progress: Mapping[int, Progress], frame: pl.DataFrame, columns: tuple[Array, ...]
) -> dict[int, Progress]:
    """With the offsets, and from where each partition would have to be read again."""
    changed = dict(progress)
    partition, offset = frame["partition"].to_numpy(), frame["offset"].to_numpy()
    for number in np.unique(partition).tolist():
        known = changed.get(number) or Progress()
        offsets = offset[partition == number]
        mine = columns[PARTITION] == number
        # Users are in the changelog after the next fold, minutes once they are folded.
        until = np.where(columns[SIZE] == 0, columns[START], known.folded)[mine].max(
            initial=NONE - 1
        )
        marks = known.marks
        if until >= known.folded and (not marks or until > marks[-1][1]):
            marks = (*marks, (int(offsets[0]), int(until)))
        changed[number] = replace(known, marks=marks, offset=int(offsets[-1]) + 1)
    return changed


def resumed(
    state: MergeState, partition: int, offset: int, metadata: str, sources: int
) -> tuple[MergeState, int]:
    """With a partition that is to be read again from the offset given back."""
    progress, start = Progress.resumed(offset, metadata, sources)
    return replace(state, progress={**state.progress, partition: progress}), start


def restored(
    state: MergeState, partition: int, rollups: Iterable[MetricRollup], plan: Plan
) -> MergeState:
    """With rows of the changelog."""
    rows: list[tuple[Any, ...]] = []
    for rollup in rollups:
        if rollup.version not in plan.numbers:
            continue
        place = (
            partition,
            plan.numbers[rollup.version],
            SIZES.index(rollup.window_size),
            rollup.window_start,
            rollup.dimensions,
        )
        if rollup.parts:
            rows += [(*place, source, -1, rollup.parts) for source in (FOLDED, TOTAL)]
        for source, users in json.loads(rollup.users).items():
            rows.append((*place, int(source), users, None))
    if not rows:
        return state
    part, grain, size, start, dimensions, source, users, parts = map(list, zip(*rows, strict=True))
    hashes = of_strings(pl.Series(dimensions, dtype=pl.String))
    columns = (part, source, grain, size, start, [RESTORED] * len(rows), users, hashes)
    table: list[Array] = [np.asarray(c).astype(d) for c, d in zip(columns, _DTYPES, strict=False)]
    table += [_objects(dimensions), _objects(parts)]
    key = row_keys(hashes, table[GRAIN], table[SIZE], table[START])
    return replace(state, rows=state.rows.add(key, *table))


def without(state: MergeState, partitions: set[int]) -> MergeState:
    """Without these partitions."""

    def others(run: Run) -> Array:
        return ~np.isin(run.columns[PARTITION], list(partitions))

    rows, applied = state.rows.keep(others), state.applied.keep(others)
    progress = {p: known for p, known in state.progress.items() if p not in partitions}
    # Keys that are gone find no rows when their turn comes.
    return replace(state, rows=rows, applied=applied, progress=progress)
