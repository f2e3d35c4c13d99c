"""Sessions as rows of their tables, and rows back to what is kept of open sessions.

Upstream: `sessions.Told`. Downstream: `branch.py` writes and restores them, `backtest` shows them.
Invariant: of an open session its row says all that is kept of it; `parts` has it where that is
several spans, else the row's own columns do.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from streamgauge.streams.metrics.keys import combine, of_strings
from streamgauge.streams.metrics.runs import Run
from streamgauge.streams.sessions import spans
from streamgauge.streams.sessions.sessions import Told
from streamgauge.streams.sessions.spans import DTYPES, NO_RUN, objects, user_keys

Array = np.ndarray

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
        "playbacks": pl.Int64(),
        "is_bounce": pl.Boolean(),
        "is_binge": pl.Boolean(),
        "is_final": pl.Boolean(),
    }
)
"""What is told, with times in int ms; sessions over devices have no device_type."""

KEPT = pl.Schema(
    {
        "emitted_offset": pl.Int64(),
        "entry_at": pl.Int64(),
        "entry_id": pl.String(),
        "exit_at": pl.Int64(),
        "exit_id": pl.String(),
        "plays": pl.String(),
        "parts": pl.String(),
    }
)
"""What is kept beside that, to go on from; null in final rows but for the offset."""

_COUNTS = {
    "events": spans.EVENTS,
    "page_views": spans.VIEWS,
    "conversions": spans.CONVERTED,
    "playbacks": spans.PLAYED,
}


def changed(told: Told, *, by_device: bool) -> pl.DataFrame:
    """With the columns ROWS; without `device_type` where sessions are over devices."""
    columns = told.sessions.columns
    start, end, events = (columns[n] for n in (spans.START, spans.END, spans.EVENTS))
    devices = {"device_type": columns[spans.DEVICE].tolist()} if by_device else {}
    return pl.DataFrame(
        {
            "user_id": columns[spans.USER].tolist(),
            **devices,
            "started_at": start,
            "ended_at": end,
            "duration_seconds": (end - start) / 1000,
            "entry_page": columns[spans.ENTRY].tolist(),
            "exit_page": columns[spans.EXIT].tolist(),
            **{name: columns[number] for name, number in _COUNTS.items()},
            "is_bounce": events == 1,
            "is_binge": columns[spans.BINGED],
            "is_final": told.is_final,
        },
        schema_overrides=ROWS,
    ).select(name for name in ROWS if by_device or name != "device_type")


def kept(told: Told) -> pl.DataFrame:
    """With the columns KEPT."""
    columns, is_open = told.sessions.columns, ~told.is_final
    parts = _parts(told)
    names = list(zip(told.sessions.key.tolist(), columns[spans.START].tolist(), strict=True))
    has_page = is_open & (columns[spans.ENTRY_ID] != None)  # noqa: E711
    return pl.DataFrame(
        {
            "emitted_offset": [told.offsets[p] for p in columns[spans.PARTITION].tolist()],
            "entry_at": _where(has_page, columns[spans.ENTRY_AT]),
            "entry_id": _where(is_open, columns[spans.ENTRY_ID]),
            "exit_at": _where(has_page, columns[spans.EXIT_AT]),
            "exit_id": _where(is_open, columns[spans.EXIT_ID]),
            "plays": [plays_text(plays) for plays in _where(is_open, columns[spans.PLAYS])],
            "parts": [parts.get(name) for name in names] if parts else [None] * len(names),
        },
        schema=KEPT,
    )


def gone(told: Told, *, by_device: bool) -> pl.DataFrame:
    """The keys of rows that are no more, as far as their table has them."""
    columns = told.gone.columns
    names = {"user_id": spans.USER, "device_type": spans.DEVICE, "started_at": spans.START}
    wanted = [name for name in names if by_device or name != "device_type"]
    return pl.DataFrame(
        {name: columns[names[name]].tolist() for name in wanted},
        schema={name: ROWS[name] for name in wanted},
    )


def restored(rows: pl.DataFrame, partition: int, *, by_device: bool) -> Run:
    """What is kept of open sessions, from their rows (ROWS and KEPT)."""
    if not rows.height:
        return NO_RUN
    start = rows["started_at"].to_numpy()
    columns: list[Any] = [np.full(len(start), partition), start, rows["ended_at"].to_numpy()]
    columns += [rows[name].to_numpy() for name in (*_COUNTS, "is_binge")]
    columns += [
        rows["entry_at"].fill_null(spans.FAR).to_numpy(),
        rows["exit_at"].fill_null(-spans.FAR).to_numpy(),
        *(objects(rows[name].to_list()) for name in ("entry_id", "exit_id")),
        *(objects(rows[name].to_list()) for name in ("entry_page", "exit_page")),
        objects([plays_of(text) for text in rows["plays"].to_list()]),
        objects(rows["user_id"].to_list()),
        objects(rows["device_type"].to_list() if by_device else [None] * len(start)),
    ]
    key = session_keys(rows, partition, by_device=by_device)
    whole = _run(key, columns)
    several = rows["parts"].is_not_null().to_numpy()
    if not several.any():
        return whole
    pieces = [whole.take((~several).nonzero()[0])]
    for place in several.nonzero()[0].tolist():
        pieces.append(_spans(whole.take(np.array([place])), json.loads(rows["parts"][place])))
    return spans.concatenated(pieces)


def session_keys(rows: pl.DataFrame, partition: int, *, by_device: bool) -> Array:
    """Where what is kept of these rows' sessions is to be found."""
    key = user_keys(rows["user_id"], np.full(rows.height, partition, np.int32))
    return combine(of_strings(rows["device_type"]), key) if by_device else key


# What a part says, in this order: all but whose it is.
_PART = (
    *(spans.START, spans.END, spans.EVENTS, spans.VIEWS, spans.CONVERTED, spans.PLAYED),
    *(spans.BINGED, spans.ENTRY_AT, spans.EXIT_AT, spans.ENTRY_ID, spans.EXIT_ID),
    *(spans.ENTRY, spans.EXIT),
)


def _parts(told: Told) -> dict[tuple[int, int], str]:
    """The spans of sessions that have several, by key and start of the session."""
    found: dict[tuple[int, int], list[list[Any]]] = {}
    columns = told.parts.columns
    values = zip(*(columns[number].tolist() for number in _PART), strict=True)
    plays = columns[spans.PLAYS].tolist()
    name = None
    for key, is_first, value, play in zip(
        told.parts.key.tolist(), told.parts_begin.tolist(), values, plays, strict=True
    ):
        if is_first:
            name = (key, value[0])
        assert name is not None
        found.setdefault(name, []).append([*value, plays_text(play)])
    return {name: json.dumps(parts, ensure_ascii=False) for name, parts in found.items()}


def _spans(session: Run, parts: Sequence[Sequence[Any]]) -> Run:
    columns = [np.repeat(column, len(parts)) for column in session.columns]
    for number, values in zip(_PART, zip(*parts, strict=True), strict=False):
        columns[number] = objects(values) if DTYPES[number] is object else np.array(values)
    columns[spans.PLAYS] = objects([plays_of(part[-1]) for part in parts])
    return _run(np.repeat(session.key, len(parts)), columns)


def _run(key: Array, columns: Sequence[Any]) -> Run:
    return Run(
        key=key,
        columns=tuple(c.astype(d, copy=False) for c, d in zip(columns, DTYPES, strict=True)),
    )


def _where(wanted: Array, values: Array) -> list[Any]:
    """The values as a list, None elsewhere."""
    if wanted.all():
        return values.tolist()
    found = values.astype(object)
    found[~wanted] = None
    return found.tolist()


def plays_text(plays: spans.Plays | None) -> str | None:
    return None if plays is None else json.dumps(sorted(plays), ensure_ascii=False)


def plays_of(text: str | None) -> spans.Plays | None:
    return None if text is None else frozenset((series, of) for series, of in json.loads(text))
