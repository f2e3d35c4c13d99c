"""The state of one partition as bytes, and back: what a checkpoint on local disk holds.

Upstream: stable states, which never change, so this runs beside the work. Downstream: the same
state, to which the input since then is added as it was at first.

    snapshot of the commit at o  +  input o..O, replayed  =  state of the commit at O

holds since fates, rows, entries and sketches follow from the log alone, however it is batched. What
does not is which rows have gone out or were saved, and to where minutes are folded; of that
`aligned` takes over what the commit at O says, and the rest goes out again: values are absolute.
So a changelog is not needed. It is needed where the log before o was read under other versions
(they "begin" elsewhere), or o is before the offset from which a full restore reads: then None.

Invariants: keys are hashes; `identity` changes where hashes, definitions or settings do.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import DTypeLike

from streamgauge.streams.metrics import fold
from streamgauge.streams.metrics.clock import MINUTE_MS, Clock
from streamgauge.streams.metrics.fate import NONE, Original
from streamgauge.streams.metrics.keys import union
from streamgauge.streams.metrics.merge import (
    FOLDED,
    PARTITION,
    SIZE,
    SIZE_MS,
    SOURCE,
    START,
    TOTAL,
    MergeState,
    lengthened,
    newest,
    with_window,
)
from streamgauge.streams.metrics.merge import Settings as MergeSettings
from streamgauge.streams.metrics.progress import Progress
from streamgauge.streams.metrics.runs import Run, Runs
from streamgauge.streams.metrics.sketches import Place, Sketch
from streamgauge.streams.metrics.source import Live, SourceState
from streamgauge.streams.metrics.source import Settings as SourceSettings
from streamgauge.streams.packing import packed, unpacked

Array = np.ndarray

FORMAT = 2
"""To be raised whenever a state is made or kept in another way."""


def identity(versions: Sequence[str], *settings: Any) -> str:
    """What a snapshot depends on beside the log; hashes differ by machine and polars' version."""
    probe = pl.DataFrame({"text": ["a", None], "whole": [1, -1], "real": [0.5, 2.0]})
    hashes = [column.hash(seed).to_list() for column in probe for seed in (0, 1)]
    return json.dumps([FORMAT, list(versions), settings, pl.__version__, hashes])


# -- the first stage -----------------------------------------------------------------------------


def of_source(state: SourceState, partition: int, settings: SourceSettings) -> bytes:
    """Of a state whose users are all in their sketches; what is too old to matter is left out."""
    clock = state.clocks[partition].thinned(settings.lateness)
    floor = clock.watermark - settings.lateness

    def is_open(run: Run, start: int) -> Array:
        return (run.columns[0] == partition) & (run.columns[start] + MINUTE_MS > floor)

    rows = state.rows.keep(lambda run: is_open(run, 2))
    live = Live(rows)
    dirty = union(*state.dirty)
    sketches = [(place, kept) for place, kept in state.sketches.items() if place[0] == partition]
    frames = {
        "rows": table(rows),
        "entries": table(state.entries.keep(lambda run: live.has(run.key))),
        "seen": table(state.seen.keep(lambda run: is_open(run, 1))),
        "ids": table(
            state.ids.keep(lambda run: (run.columns[3] == partition) & (run.columns[0] >= floor))
        ),
        "dirty": pl.DataFrame({"key": dirty[live.has(dirty)]}),
        "sketches": pl.DataFrame(
            [(*place, sketch.data, sketch.emitted, sketch.saved) for place, sketch in sketches],
            schema=_SKETCHES,
            orient="row",
        ),
    }
    originals = [astuple(o) for o in state.originals.values() if o.partition == partition]
    return packed(frames, {"clock": asdict(clock), "originals": originals})


_SKETCHES: Mapping[str, Any] = {
    "partition": pl.Int64,
    "size": pl.String,
    "start": pl.Int64,
    "version": pl.String,
    "dimensions": pl.String,
    "data": pl.Binary,
    "emitted": pl.Boolean,
    "saved": pl.Boolean,
}


def with_source(
    state: SourceState,
    partition: int,
    snapshot: memoryview,
    at: int,
    committed: tuple[int, str],
    settings: SourceSettings,
) -> SourceState | None:
    """With a partition as it was at offset `at`."""
    then = Clock.resumed(*committed, settings.plan.numbers)
    frames, content = unpacked(snapshot)
    found = content["clock"]
    clock = Clock(**found | {"checkpoints": tuple(map(tuple, found["checkpoints"]))})
    begun = all(clock.since.get(version) == since for version, since in then.since.items())
    if not committed[1] or not begun or then.checkpoints[0][0] > at:
        return None
    originals = [
        Original(partition=partition, offset=offset, timestamp=timestamp, event_id=event_id)
        for _, offset, timestamp, event_id in content["originals"]
    ]
    sketches = {
        Place(*row[:5]): Sketch(data=row[5], emitted=row[6], saved=row[7])
        for row in frames["sketches"].rows()
    }
    dirty = frames["dirty"]["key"].to_numpy()
    return replace(
        state,
        # all that is not in the changelog is written again, and with it when it closes
        clocks={**state.clocks, partition: replace(clock, saved=NONE)},
        ids=added(state.ids, frames["ids"]),
        rows=added(state.rows, frames["rows"]),
        entries=added(state.entries, frames["entries"]),
        seen=added(state.seen, frames["seen"]),
        dirty=(*state.dirty, dirty) if len(dirty) else state.dirty,
        sketches={**state.sketches, **sketches},
        originals={**state.originals, **{(o.partition, o.offset): o for o in originals}},
    )


# -- the second stage ----------------------------------------------------------------------------


def of_merge(state: MergeState, partition: int) -> bytes:
    """Without totals, which are made again from minutes and what is folded."""
    rows = state.rows.keep(
        lambda run: (run.columns[PARTITION] == partition) & (run.columns[SOURCE] != TOTAL)
    )
    whole = newest(rows.where(lambda run: np.ones(len(run.key), bool)))
    return packed({"rows": _frame(whole)}, asdict(state.progress[partition]))


def with_merge(
    state: MergeState,
    partition: int,
    snapshot: memoryview,
    at: int,
    committed: tuple[int, str],
    settings: MergeSettings,
) -> MergeState | None:
    """With a partition as it was at offset `at`; `aligned` comes after the replay."""
    _, start = Progress.resumed(*committed, settings.sources)
    if not committed[1] or start > at:
        return None
    frames, content = unpacked(snapshot)
    run = _run(frames["rows"], state.rows.dtypes)
    folded = run.take(np.flatnonzero(run.columns[SOURCE] == FOLDED))
    totals = list(folded.columns)
    totals[SOURCE] = np.full(len(folded.key), TOTAL, totals[SOURCE].dtype)
    is_minute = run.columns[SIZE] == 0
    minutes = run.take(np.flatnonzero(is_minute))
    longer = [lengthened(with_window(minutes, size, settings.plan), size).key for size in (1, 2)]
    numbers = {int(source): watermark for source, watermark in content["watermarks"].items()}
    marks = tuple(map(tuple, content["marks"]))
    return replace(
        state,
        progress={
            **state.progress,
            partition: Progress(**content | {"watermarks": numbers, "marks": marks}),
        },
        rows=state.rows.add(run.key, *run.columns).add(folded.key, *totals),
        longer=(*state.longer, np.unique(np.concatenate([run.key[~is_minute], *longer]))),
        unapplied=(*state.unapplied, minutes.key),
    )


def aligned(
    state: MergeState, committed: Mapping[int, tuple[int, str]], settings: MergeSettings
) -> MergeState:
    """Replayed snapshots, folded and closed as far as their commits say.

    A mark that the commit needs no more is of minutes that are folded now; the first one that it
    needs covers, like all before it, whatever is not in the changelog.
    """
    if not committed:
        return state
    state = fold.applied(state, settings.plan)  # totals first: they are made of minutes
    progress, folds = dict(state.progress), {}
    closed_before = np.full(max(progress) + 1, NONE)
    for partition, of in committed.items():
        then, start = Progress.resumed(*of, settings.sources)
        known = progress[partition]
        later = [(max(first, start), until) for first, until in known.marks if until > then.folded]
        progress[partition] = replace(then, marks=((start, then.folded), *later))
        if then.folded > known.folded:
            folds[partition] = then.folded
        closed_before[partition] = then.sent - settings.lateness
    state, _ = fold.folded(state, folds, settings.plan)

    def is_open(run: Run) -> Array:
        size = run.columns[SIZE]
        ends = run.columns[START] + SIZE_MS[size]
        return (size == 0) | (ends > closed_before[run.columns[PARTITION]])

    rows = state.rows.keep(is_open)
    return replace(state, rows=rows, applied=rows, progress=progress)


# -- bytes ---------------------------------------------------------------------------------------


def table(runs: Runs) -> pl.DataFrame:
    """All rows as a frame."""
    return _frame(runs.where(lambda run: np.ones(len(run.key), bool)))


def _frame(run: Run) -> pl.DataFrame:
    columns = {
        str(number): column.tolist() if column.dtype == object else column
        for number, column in enumerate(run.columns)
    }
    return pl.DataFrame({"key": run.key, **columns})


def _run(frame: pl.DataFrame, dtypes: Sequence[DTypeLike]) -> Run:
    columns = []
    for number, dtype in enumerate(dtypes):
        column: Array = np.empty(frame.height, dtype)
        values = frame[str(number)]
        column[:] = values.to_list() if dtype is object else values.to_numpy()
        columns.append(column)
    return Run(key=frame["key"].to_numpy(), columns=tuple(columns))


def added(runs: Runs, frame: pl.DataFrame) -> Runs:
    """With the rows of such a frame."""
    run = _run(frame, runs.dtypes)
    return runs.add(run.key, *run.columns)
