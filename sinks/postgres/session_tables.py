"""Sessions as rows of the tables `sessions` and `device_sessions`.

Upstream: decoded batches of the topics `sessions` and `device-sessions`. Downstream: the sink. A
tombstone's key says which row there is no more: `user_id|started_at`, or
`user_id|device_type|started_at`, where only the user may hold a `|`.
"""

from __future__ import annotations

import polars as pl

from streamgauge.sinks.postgres.columns import clean, source, time

SESSION_COLUMNS = frozenset(
    {"user_id", "started_at", "ended_at", "duration_seconds", "events", "page_views"}
    | {"entry_page", "exit_page", "conversions", "playbacks", "is_bounce", "is_binge", "is_final"}
)
DEVICE_SESSION_COLUMNS = SESSION_COLUMNS | {"device_type"}


def session_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """Without what only the worker needs."""
    return frame.select(
        "user_id",
        pl.col("started_at", "ended_at").pipe(time),
        *("duration_seconds", "events", "page_views", "entry_page", "exit_page", "conversions"),
        *("playbacks", "is_bounce", "is_binge", "is_final"),
        *source(),
    ).pipe(clean)


def device_session_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """A key has no nulls: events that name no device are of the device ''."""
    device = frame["device_type"].fill_null("")
    return session_rows(frame).insert_column(1, device)


def session_keys(tombstones: pl.DataFrame) -> pl.DataFrame:
    """Which rows of `sessions` there are no more."""
    return _keys(tombstones, r"^(?s)(?<user_id>.*)\|(?<started_at>-?\d+)$")


def device_session_keys(tombstones: pl.DataFrame) -> pl.DataFrame:
    """Which rows of `device_sessions`."""
    pattern = r"^(?s)(?<user_id>.*)\|(?<device_type>[^|]*)\|(?<started_at>-?\d+)$"
    return _keys(tombstones, pattern)


def _keys(tombstones: pl.DataFrame, pattern: str) -> pl.DataFrame:
    parts = pl.col("key").cast(pl.String).str.extract_groups(pattern)
    keys = tombstones.select(parts.alias("parts"), *source()).unnest("parts")
    return keys.with_columns(pl.col("started_at").cast(pl.Int64).pipe(time)).pipe(clean)
