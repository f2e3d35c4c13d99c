"""Sessions as rows of their tables, and rows back to what is kept of open sessions.

Upstream: `sessions.Told`. Downstream: `branch.py` writes and restores them, `backtest` shows them.
Invariant: of an open session its row says all that is kept of it; `parts` has it where that is
several spans, else the row's own columns do.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import polars as pl

from streamgauge.streams.metrics.keys import combine, of_strings
from streamgauge.streams.metrics.runs import Run, together
from streamgauge.streams.sessions import spans
from streamgauge.streams.sessions.sessions import Told
from streamgauge.streams.sessions.spans import SPAN, TEXTS, Read, user_keys

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
    "events": "events",
    "page_views": "views",
    "conversions": "converted",
    "playbacks": "played",
}


def changed(told: Told, *, by_device: bool) -> pl.DataFrame:
    """With the columns ROWS; without `device_type` where sessions are over devices."""
    found = told.sessions
    rows = found.rows
    devices = {"device_type": found.text("device")} if by_device else {}
    return pl.DataFrame(
        {
            "user_id": found.text("user"),
            **devices,
            "started_at": rows["start"],
            "ended_at": rows["end"],
            "duration_seconds": (rows["end"] - rows["start"]) / 1000,
            "entry_page": found.text("entry"),
            "exit_page": found.text("exit"),
            **{name: rows[field] for name, field in _COUNTS.items()},
            "is_bounce": rows["events"] == 1,
            "is_binge": rows["binged"] > 0,
            "is_final": told.is_final,
        },
        schema_overrides=ROWS,
    ).select(name for name in ROWS if by_device or name != "device_type")


def kept(told: Told) -> pl.DataFrame:
    """With the columns KEPT."""
    found, is_open = told.sessions, ~told.is_final
    rows = found.rows
    has_page = pl.Series(is_open & (rows["entry_id"] > 0))
    times = pl.DataFrame({name: rows[name] for name in ("entry_at", "exit_at")})
    offsets = np.zeros(max(told.offsets, default=0) + 1, np.int64)
    for partition, offset in told.offsets.items():
        offsets[partition] = offset
    return pl.DataFrame(
        {
            "emitted_offset": offsets[rows["partition"]],
            **times.select(pl.when(has_page).then(pl.all())).to_dict(),
            **{name: found.text(name, is_open) for name in ("entry_id", "exit_id", "plays")},
            "parts": _parts(told),
        },
        schema_overrides=KEPT,
    ).select(KEPT.names())


def gone(told: Told, *, by_device: bool) -> pl.DataFrame:
    """The keys of rows that are no more, as far as their table has them."""
    devices = {"device_type": told.gone.text("device")} if by_device else {}
    start = np.ascontiguousarray(told.gone.rows["start"])
    return pl.DataFrame({"user_id": told.gone.text("user"), **devices, "started_at": start})


def restored(rows: pl.DataFrame, partition: int, *, by_device: bool) -> Read:
    """What is kept of open sessions, from their rows (ROWS and KEPT)."""
    several = rows["parts"].is_not_null()
    whole = rows.filter(~several)
    found = np.zeros(whole.height, SPAN)
    times = {"start": "started_at", "end": "ended_at", "entry_at": "entry_at", "exit_at": "exit_at"}
    missing = {"entry_at": spans.FAR, "exit_at": -spans.FAR}
    for name, column in times.items():
        found[name] = whole[column].fill_null(missing.get(name, 0)).to_numpy()
    for name, field in (*_COUNTS.items(), ("is_binge", "binged")):
        found[field] = whole[name].to_numpy()
    texts = {name: whole[column] for name, column in _texts(by_device).items()}
    keys = [session_keys(whole, partition, by_device=by_device)]
    pieces, columns = [found], {name: [column] for name, column in texts.items()}
    for row in rows.filter(several).iter_rows(named=True):
        parts = json.loads(row["parts"])
        piece = np.zeros(len(parts), SPAN)
        for name, values in zip((*_FIELDS, *_PART_TEXTS), zip(*parts, strict=True), strict=True):
            if name in TEXTS:
                columns[name].append(pl.Series(values, dtype=pl.String))
            else:
                piece[name] = values
        for name in columns.keys() - set(_PART_TEXTS):
            text = row[_texts(by_device)[name]]
            columns[name].append(pl.Series([text] * len(parts), dtype=pl.String))
        one = pl.DataFrame([row], schema=rows.schema)
        keys.append(np.repeat(session_keys(one, partition, by_device=by_device), len(parts)))
        pieces.append(piece)
    everything = together(pieces)
    everything["partition"] = partition
    return named(
        np.concatenate(keys), everything, {name: pl.concat(some) for name, some in columns.items()}
    )


def _texts(by_device: bool) -> dict[str, str]:
    """Fields that name texts, and the columns that these are in."""
    columns = {"entry": "entry_page", "exit": "exit_page", "user": "user_id"}
    devices = {"device": "device_type"} if by_device else {}
    return {**columns, **devices, **{name: name for name in ("entry_id", "exit_id", "plays")}}


def named(key: Array, rows: Array, texts: dict[str, pl.Series]) -> Read:
    """The rows with the texts of these fields."""
    before = 0
    for name, column in texts.items():
        number = np.arange(before + 1, before + 1 + len(column))
        rows[name] = np.where(column.is_null().to_numpy(), 0, number)
        before += len(column)
    everything = pl.concat([column.rename("") for column in texts.values()], rechunk=True)
    return Read(run=Run(key=key, columns=(rows,)), texts=everything)


def session_keys(rows: pl.DataFrame, partition: int, *, by_device: bool) -> Array:
    """Where what is kept of these rows' sessions is to be found."""
    key = user_keys(rows["user_id"], np.full(rows.height, partition, np.int32))
    return combine(of_strings(rows["device_type"]), key) if by_device else key


# What a part says, in this order: all but whose it is.
_FIELDS = (
    *("start", "end", "events", "views", "converted", "played"),
    *("binged", "entry_at", "exit_at"),
)
_PART_TEXTS = ("entry_id", "exit_id", "entry", "exit", "plays")


def _parts(told: Told) -> pl.Series:
    """Of each session the spans that are kept of it, where these are several."""
    names = zip(told.sessions.key.tolist(), told.sessions.rows["start"].tolist(), strict=True)
    parts = told.parts
    if not len(parts.key):
        return pl.Series([None], dtype=pl.String).new_from_index(0, len(told.sessions.key))
    found: dict[tuple[int, int], list[list[Any]]] = {}
    columns = [parts.rows[name].tolist() for name in _FIELDS]
    columns += [parts.text(name).to_list() for name in _PART_TEXTS]
    name = None
    for key, is_first, *values in zip(
        parts.key.tolist(), told.parts_begin.tolist(), *columns, strict=True
    ):
        if is_first:
            name = (key, values[0])
        assert name is not None
        found.setdefault(name, []).append(values)
    texts = {name: json.dumps(some, ensure_ascii=False) for name, some in found.items()}
    return pl.Series([texts.get(name) for name in names], dtype=pl.String)
