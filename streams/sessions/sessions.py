"""Sessions as they stand, from accepted events and the watermarks of source partitions.

    time      --------------------------------------------------------------->
    floor                        |  watermark - L, in whole minutes
    settled   a..b     c..d..e   |  f     g        events may come between these, not those
              over     joined       kept one by one

Upstream: events that `streams.metrics.fate` accepted. Downstream: rows of `sessions` and
`device_sessions`, latest wins. A session is told while it is open, when it changes, and for the
last time, `is_final`, when it is over: no accepted event can reach it once the floor is past its
end + 30 min, or its start + 24 h. A late event may join two sessions, or give one an earlier start:
a row that is no more is told as `is_gone`.

Invariants: states are never changed in place; what is told in the end depends on the events and the
watermarks alone, not on batches or the order of arrival; a final row never changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from streamgauge.streams.metrics.fate import NONE
from streamgauge.streams.metrics.keys import combine
from streamgauge.streams.metrics.runs import Run, Runs
from streamgauge.streams.sessions import spans
from streamgauge.streams.sessions.spans import CONVERSIONS, NO_SPANS
from streamgauge.streams.sessions.splitting import begins, closed

Array = np.ndarray

FLOOR_MS = 60_000

KEY = ("user_id", "device_type", "started_at")
ROWS = pl.Schema(
    {
        "user_id": pl.String(),
        "device_type": pl.String(),
        "started_at": pl.Int64(),
        "ended_at": pl.Int64(),
        "duration_seconds": pl.Float64(),
        "events": pl.Int64(),
        "page_views": pl.Int64(),
        "entry_page": pl.String(),
        "exit_page": pl.String(),
        "conversions": pl.Int64(),
        "is_bounce": pl.Boolean(),
        "is_final": pl.Boolean(),
        "is_gone": pl.Boolean(),
    }
)
"""What is told, with times in int ms; device_type is null where sessions are over devices."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What sessions depend on, beside the events."""

    lateness: int
    identifiable: pl.Expr
    by_device: bool = False
    conversions: tuple[str, ...] = CONVERSIONS


@dataclass(frozen=True, kw_only=True)
class SessionState:
    """The spans of sessions that are not over."""

    spans: Runs = NO_SPANS
    told: Runs = NO_SPANS
    """The spans of which sessions were told last."""
    floors: Mapping[int, int] = field(default_factory=dict)
    """By source partition."""
    swept: Mapping[int, int] = field(default_factory=dict)
    """The floors at which sessions were closed last."""
    changed: tuple[Array, ...] = ()
    """Keys with new events since they were told."""


def step(
    state: SessionState, events: pl.DataFrame, watermarks: Mapping[int, int], settings: Settings
) -> SessionState:
    """The state after a batch of accepted events, in any order, and the watermarks after it."""
    floors = {
        partition: (watermark - settings.lateness) // FLOOR_MS * FLOOR_MS
        for partition, watermark in watermarks.items()
        if watermark != NONE
    }
    state = replace(state, floors={**state.floors, **floors})
    mine = events.filter(settings.identifiable)
    if not mine.height:
        return state
    new = spans.of_events(mine, settings.by_device, settings.conversions)
    return replace(
        state,
        spans=state.spans.add(new.key, *new.columns),
        changed=(*state.changed, np.unique(new.key)),
    )


def flush(state: SessionState) -> tuple[SessionState, pl.DataFrame]:
    """The sessions to tell: those that changed, are over, or are gone; with the columns ROWS."""
    floors = np.full(max(state.floors, default=0) + 1, NONE)
    for partition, floor in state.floors.items():
        floors[partition] = floor
    due = _due(state, floors)
    keys = np.unique(np.concatenate([due, *state.changed]))
    if not len(keys):
        return replace(state, swept=state.floors, changed=()), ROWS.to_frame()
    before = _sessions(_found(state.told, keys))
    now = _found(state.spans, keys)
    is_first = begins(now.key, now.columns[spans.START], now.columns[spans.END])
    sessions = spans.joined(now, is_first)
    final = _closed(sessions, floors)
    news = _rows(sessions.take(_news(before, sessions, final)), floors)
    rows = pl.concat([news, _gone(before, sessions)], how="diagonal")
    table = state.spans
    if len(due):
        settled = _settled(now, is_first, final, floors)
        settled = settled.take(np.isin(settled.key, due).nonzero()[0])
        table = table.keep(lambda run: ~np.isin(run.key, due)).add(settled.key, *settled.columns)
    state = replace(state, spans=table, told=table, swept=state.floors, changed=())
    return state, rows


def _due(state: SessionState, floors: Array) -> Array:
    """Keys of whose sessions some may be over."""
    if state.floors == state.swept:
        return np.zeros(0, np.uint64)
    return np.unique(state.spans.where(lambda run: _closed(run, floors)).key)


def _closed(run: Run, floors: Array) -> Array:
    columns = run.columns
    floor = floors[columns[spans.PARTITION]]
    return closed(columns[spans.START], columns[spans.END], floor)


def _found(table: Runs, keys: Array) -> Run:
    which, columns = table.find(keys)
    return spans.ordered(Run(key=keys[which], columns=columns))


def _sessions(run: Run) -> Run:
    return spans.joined(run, begins(run.key, run.columns[spans.START], run.columns[spans.END]))


def _settled(run: Run, is_first: Array, final: Array, floors: Array) -> Run:
    """Without the sessions that are over; what nothing can come between is joined."""
    is_open = ~final[is_first.cumsum() - 1]
    run, is_first = run.take(is_open.nonzero()[0]), is_first[is_open]
    fixed = run.columns[spans.END] < floors[run.columns[spans.PARTITION]]
    return spans.joined(run, is_first | ~fixed)


def _news(before: Run, sessions: Run, final: Array) -> Array:
    """Of sessions: which were not told as they are. With the same start and number of events, a
    session has the same events: new ones only add to it."""
    names = combine(_names(sessions), sessions.columns[spans.EVENTS])
    told = combine(_names(before), before.columns[spans.EVENTS])
    return (final | ~np.isin(names, told)).nonzero()[0]


def _names(run: Run) -> Array:
    return combine(run.key, run.columns[spans.START])


def _rows(run: Run, floors: Array) -> pl.DataFrame:
    columns = run.columns
    start, end, events = columns[spans.START], columns[spans.END], columns[spans.EVENTS]
    told = {
        "user_id": columns[spans.USER].tolist(),
        "device_type": columns[spans.DEVICE].tolist(),
        "started_at": start,
        "ended_at": end,
        "duration_seconds": (end - start) / 1000,
        "events": events,
        "page_views": columns[spans.VIEWS],
        "entry_page": columns[spans.ENTRY].tolist(),
        "exit_page": columns[spans.EXIT].tolist(),
        "conversions": columns[spans.CONVERTED],
        "is_bounce": events == 1,
        "is_final": _closed(run, floors),
        "is_gone": np.zeros(len(events), bool),
    }
    return pl.DataFrame(told, schema=ROWS)


def _gone(before: Run, sessions: Run) -> pl.DataFrame:
    """The keys of sessions that were told and are no more."""
    gone = before.take((~np.isin(_names(before), _names(sessions))).nonzero()[0])
    columns = gone.columns
    return pl.DataFrame(
        {
            "user_id": columns[spans.USER].tolist(),
            "device_type": columns[spans.DEVICE].tolist(),
            "started_at": columns[spans.START],
            "is_gone": np.ones(len(gone.key), bool),
        },
        schema={name: ROWS[name] for name in (*KEY, "is_gone")},
    )
