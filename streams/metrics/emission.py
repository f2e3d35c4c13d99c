"""What the first stage writes at a barrier: changed minutes, users, watermarks, sketches.

Upstream: `source.py`. Downstream: `tasks.py` encodes it. The order matters to the merge: values
first, then the watermark that closes their windows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from streamgauge.schemas.metrics import WINDOW_MS
from streamgauge.streams.metrics import sketches
from streamgauge.streams.metrics.clock import MINUTE_MS, Clock
from streamgauge.streams.metrics.fate import NONE, Original
from streamgauge.streams.metrics.keys import union
from streamgauge.streams.metrics.parts import Entries, combined, pack
from streamgauge.streams.metrics.runs import Run
from streamgauge.streams.metrics.sketches import Place, Sketches
from streamgauge.streams.metrics.source import Live, Settings, SourceState

Array = np.ndarray

OVERLAY_LIMIT = 100_000
"""New users that wait to be added to their sketches, at most."""


@dataclass(frozen=True, kw_only=True)
class Emission:
    """Rows to write; all values are absolute."""

    minutes: list[tuple[int, int, int, str, bytes]]
    """(source partition, grain, window start, dimensions, parts)"""
    users: list[tuple[Place, int]]
    watermarks: list[tuple[int, int, str | None]]
    """(source partition, watermark, since)"""
    sketches: list[tuple[Place, bytes | None]]
    """None: the window is closed."""
    originals: list[tuple[Original, bool]]
    """Whether it is still needed."""


def flush(
    state: SourceState, settings: Settings, *, users_due: bool = True
) -> tuple[SourceState, Emission]:
    """Everything that has changed; users of hours and days only when due, or when they close."""
    minutes = _minutes(state)
    state, users, saved = _users(state, settings, users_due)
    watermarks = [
        (partition, clock.watermark, json.dumps(dict(clock.since)) if clock.since else None)
        for partition, clock in sorted(state.clocks.items())
        if clock.watermark != clock.sent
    ]
    originals = [(original, True) for original in state.unsaved]
    clocks = {
        partition: replace(clock.thinned(settings.lateness), sent=clock.watermark)
        for partition, clock in state.clocks.items()
    }
    state = replace(state, clocks=clocks, dirty=(), unsaved=())
    state, expired = _pruned(state, settings)
    return state, Emission(
        minutes=minutes,
        users=users,
        watermarks=watermarks,
        sketches=saved,
        originals=originals + [(original, False) for original in expired],
    )


def _minutes(state: SourceState) -> list[tuple[int, int, int, str, bytes]]:
    if not state.dirty:
        return []
    keys = union(*state.dirty)
    which, columns = state.rows.find(keys)
    order = np.argsort(which)
    partition, grain, start, dimensions = (column[order].tolist() for column in columns)
    row, (slot, value) = state.entries.find(keys)
    packed = pack(combined(Entries(row, slot, value)), len(keys))
    return [row for row in zip(partition, grain, start, dimensions, packed, strict=True) if row[-1]]


def _users(
    state: SourceState, settings: Settings, due: bool
) -> tuple[SourceState, list[tuple[Place, int]], list[tuple[Place, bytes | None]]]:
    closing = [p for p, clock in state.clocks.items() if _closes(clock, settings.lateness)]
    saving = [
        p
        for p, clock in state.clocks.items()
        if clock.watermark != NONE
        and (clock.saved == NONE or clock.watermark >= clock.saved + settings.lateness // 2)
    ]
    waiting = sum(len(pairs) for pairs in state.overlay)
    if not (due or closing or saving or waiting > OVERLAY_LIMIT):
        return state, [], []
    state = folded(state, settings)
    known = state.sketches
    closed = [place for place in known if is_closed(place, state.clocks, settings.lateness)]
    news = [p for p, s in known.items() if not s.emitted and (due or p in set(closed))]
    users = [(place, sketches.estimate(known[place])) for place in news]
    unsaved = [p for p, s in known.items() if not s.saved and p.partition in saving]
    gone = set(closed)
    saved = [(place, None if place in gone else known[place].data) for place in unsaved]
    saved += [(place, None) for place in closed if known[place].saved]
    known = sketches.marked(sketches.marked(known, news, emitted=True), unsaved, saved=True)
    clocks = dict(state.clocks)
    for partition in saving:
        clocks[partition] = replace(clocks[partition], saved=clocks[partition].watermark)
    kept = {place: sketch for place, sketch in known.items() if place not in gone}
    return replace(state, sketches=kept, clocks=clocks), users, saved


def _closes(clock: Clock, lateness: int) -> bool:
    """Whether hours may have closed since the watermark was sent."""
    hour = WINDOW_MS["1h"]
    return (clock.watermark - lateness) // hour > (clock.sent - lateness) // hour


def is_closed(place: Place, clocks: Mapping[int, Clock], lateness: int) -> bool:
    end = place.start + WINDOW_MS[place.size]
    return clocks[place.partition].watermark >= end + lateness


def folded(state: SourceState, settings: Settings) -> SourceState:
    """With all users in their sketches."""
    if not state.overlay:
        return state
    pairs = pl.concat(state.overlay)
    keys, key_of = np.unique(pairs["key"].to_numpy(), return_inverse=True)
    which, columns = state.rows.find(keys)
    partition, grain, start, dimensions = (c[np.argsort(which)].tolist() for c in columns)
    hours: dict[tuple[int, int, int, str], list[int]] = {}
    for number, place in enumerate(zip(partition, grain, start, dimensions, strict=True)):
        part, of_grain, at, text = place
        hours.setdefault((part, of_grain, at - at % WINDOW_MS["1h"], text), []).append(number)
    hour_of = np.empty(len(keys), np.int64)
    for number, members in enumerate(hours.values()):
        hour_of[members] = number
    users = (
        pairs.select(pl.Series("hour", hour_of[key_of]), "user")
        .unique()
        .group_by("hour")
        .agg("user")
    )
    names = list(hours)
    added = []
    for number, group in zip(users["hour"].to_list(), users["user"], strict=True):
        part, of_grain, at, text = names[number]
        sketch = sketches.of_users(group.to_list())
        of = settings.plan.grains[of_grain]
        for size in of.windows:
            if size != "1m":
                first = at - at % WINDOW_MS[size]
                added.append((Place(part, size, first, of.version, text), sketch))
    return replace(state, sketches=sketches.with_users(state.sketches, added), overlay=())


def forgotten(state: SourceState, partitions: Iterable[int], settings: Settings) -> SourceState:
    """After a replay: without the closed windows, whose values went out before."""
    state = folded(state, settings)
    kept: Sketches = {
        place: sketch
        for place, sketch in state.sketches.items()
        if place.partition not in partitions
        or not is_closed(place, state.clocks, settings.lateness)
    }
    return replace(state, sketches=kept)


def _pruned(state: SourceState, settings: Settings) -> tuple[SourceState, list[Original]]:
    """Without what is too old to matter; now and then, for it takes a look at everything."""
    lateness = settings.lateness
    behind = max(lateness // 8, MINUTE_MS)
    if not any(c.watermark >= c.pruned + behind for c in state.clocks.values()):
        return state, []
    state = folded(state, settings)  # while the rows of its keys are there
    floors = np.full(max(state.clocks) + 1, NONE)
    for partition, clock in state.clocks.items():
        floors[partition] = clock.watermark - lateness

    rows = state.rows.keep(lambda run: run.columns[2] + MINUTE_MS > floors[run.columns[0]])
    live = Live(rows)

    def open_pairs(run: Run) -> Array:
        return run.columns[1] + MINUTE_MS > floors[run.columns[0]]

    # The watermark before a record that is read again is at least that of the checkpoint.
    expired = [
        original
        for original in state.originals.values()
        if original.timestamp < state.clocks[original.partition].checkpoints[0][1] - lateness
    ]
    gone = {(original.partition, original.offset) for original in expired}
    return replace(
        state,
        clocks={p: replace(c, pruned=c.watermark) for p, c in state.clocks.items()},
        ids=state.ids.keep(lambda run: run.columns[0] >= floors[run.columns[3]]),
        rows=rows,
        entries=state.entries.keep(lambda run: live.has(run.key)),
        seen=state.seen.keep(open_pairs),
        originals={k: o for k, o in state.originals.items() if k not in gone},
    ), expired
