"""The tables that topics fill, as data: columns, keys, and how records become rows.

Upstream: decoded batches. Downstream: the sink, which copies the rows in. What the columns mean
is said where they are made, in the migrations.

Invariants: `rows` is pure; times are ms here, and stay within what both Postgres and Python's
datetime can say; text holds no NUL, which Postgres refuses and which would stop the sink for good.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from streamgauge.sinks.postgres.anomaly_tables import (
    ACTION,
    ANOMALY,
    action_rows,
    anomaly_rows,
)
from streamgauge.sinks.postgres.columns import clean, hexed, json_text, source, time
from streamgauge.sinks.postgres.experiment_tables import (
    EXPOSURE_COLUMNS,
    RESULT,
    exposure_rows,
    result_rows,
)
from streamgauge.sinks.postgres.profile_tables import (
    DAY_COLUMNS,
    DEVICE_KEY,
    PROFILE_COLUMNS,
    day_rows,
    device_rows,
    link_rows,
    profile_rows,
    temporal_rows,
)
from streamgauge.sinks.postgres.ranges import Ranges
from streamgauge.sinks.postgres.segment_tables import REASON_IN, STAY, count_rows, stay_rows
from streamgauge.sinks.postgres.session_tables import (
    DEVICE_SESSION_COLUMNS,
    SESSION_COLUMNS,
    device_session_keys,
    device_session_rows,
    session_keys,
    session_rows,
)

_FUTURE_MS = 300_000


@dataclass(frozen=True, kw_only=True)
class Table:
    """One table; `rows` makes its columns from the frame of a batch."""

    name: str
    key: tuple[str, ...]
    times: tuple[str, ...]
    rows: Callable[[pl.DataFrame], pl.DataFrame]
    ranges: Ranges | None = None
    lasting: tuple[str, ...] = ()
    """Columns that keep their value where a newer record of the row has none."""
    keep_first: bool = False
    """A row that is there stays: the same event in two records is one row."""
    delete: Callable[[pl.DataFrame], pl.DataFrame] | None = None
    """Columns that tell which rows a tombstone deletes; None: the topic has no tombstones."""
    also: tuple[Table, ...] = ()
    """Further tables that the same topic fills, in the same transaction."""


def tables(*, consent_default: str = "granted") -> Mapping[str, Table]:
    """Tables by the topic that fills them."""
    return {
        "metrics": Table(
            name="metrics",
            key=("metric", "window_size", "window_start", "dimensions", "version"),
            times=("window_start",),
            rows=metric_rows,
            ranges=Ranges(table="metrics", column="window_start", unit="day"),
            delete=metric_keys,
        ),
        "dead-letters": Table(
            name="dead_letters",
            key=("topic", "partition", "offset"),
            times=("failed_at",),
            rows=dead_letter_rows,
        ),
        "late-events": Table(
            name="late_events",
            key=("topic", "partition", "offset"),
            times=("timestamp", "watermark"),
            rows=late_event_rows,
        ),
        "user-segments": Table(
            name="user_segments",
            key=STAY,
            times=("entered_at", "left_at"),
            rows=stay_rows,
            lasting=REASON_IN,
        ),
        "segment-counts": Table(
            name="segment_counts",
            key=("segment", "at", "source_partition"),
            times=("at",),
            rows=count_rows,
        ),
        "sessions": Table(
            name="sessions",
            key=("user_id", "started_at"),
            times=("started_at", "ended_at"),
            rows=session_rows,
            ranges=Ranges(table="sessions", column="started_at", unit="month"),
            delete=session_keys,
        ),
        "device-sessions": Table(
            name="device_sessions",
            key=("user_id", "device_type", "started_at"),
            times=("started_at", "ended_at"),
            rows=device_session_rows,
            ranges=Ranges(table="device_sessions", column="started_at", unit="month"),
            delete=device_session_keys,
        ),
        "exposures": Table(
            name="exposures",
            key=("experiment", "user_id"),
            times=("exposed_at",),
            rows=exposure_rows,
        ),
        "experiment-results": Table(
            name="experiment_results",
            key=RESULT,
            times=("as_of",),
            rows=result_rows,
            ranges=Ranges(table="experiment_results", column="as_of", unit="month"),
        ),
        "anomalies": Table(
            name="anomalies",
            key=ANOMALY,
            times=("started_at", "ended_at"),
            rows=anomaly_rows,
        ),
        "actions": Table(
            name="actions",
            key=ACTION,
            times=("started_at", "ended_at", "undone_at", "excluded_from", "excluded_until"),
            rows=action_rows,
        ),
        "user-profiles": Table(
            name="user_profiles",
            key=("user_id",),
            times=("computed_at", "first_seen", "last_seen"),
            rows=profile_rows,
            also=(
                Table(
                    name="user_temporal_metrics",
                    key=("user_id",),
                    times=("computed_at",),
                    rows=temporal_rows,
                ),
                Table(
                    name="user_device_preferences",
                    key=DEVICE_KEY,
                    times=("computed_at",),
                    rows=device_rows,
                ),
            ),
        ),
        "daily-analytics": Table(
            name="daily_analytics",
            key=("user_id", "date"),
            times=("date",),
            rows=day_rows,
            ranges=Ranges(table="daily_analytics", column="date", unit="month"),
        ),
        "user-links": Table(
            name="user_links",
            key=("anonymous_id", "user_id"),
            times=("linked_at",),
            rows=link_rows,
        ),
        "events": Table(
            name="performance_logs",
            key=("created_at", "event_id"),
            times=("created_at",),
            rows=lambda frame: performance_rows(frame, consent_default=consent_default),
            ranges=Ranges(table="performance_logs", column="created_at", unit="month"),
            keep_first=True,
        ),
    }


COLUMNS: Mapping[str, frozenset[str] | None] = {
    "metrics": None,
    "dead-letters": frozenset({"schema_id", "reason", "detail", "payload", "key", "failed_at"}),
    "late-events": frozenset(
        {"event_id", "event_type", "user_id", "timestamp", "watermark", "schema_id", "payload"}
    ),
    "user-segments": frozenset(
        {"user_id", "segment", "entered_at", "left_at", "reason_in", "reason_out", "rule_version"}
    ),
    "segment-counts": None,
    "sessions": SESSION_COLUMNS,
    "device-sessions": DEVICE_SESSION_COLUMNS,
    "exposures": EXPOSURE_COLUMNS,
    "experiment-results": None,
    "anomalies": None,
    "actions": None,
    "user-profiles": PROFILE_COLUMNS,
    "daily-analytics": DAY_COLUMNS,
    "user-links": None,
    "events": frozenset(
        {"event_id", "event_type", "timestamp", "user_id", "consent_analytics"}
        | {"method_name", "duration_ms", "response_size_bytes", "cache_hit", "error_type"}
        | {"route", "status", "context"}
        | {"generation_time_ms", "item_count", "personal_connections", "interest_based"}
    ),
}
"""What to decode of each topic."""

PERFORMANCE_TYPES = frozenset({"Request", "FeedGenerated"})
"""Records of `events` that are performance logs."""


def metric_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """One row a metric, from one row a grain."""
    lists = ("metrics", "values", "numerators", "denominators")
    return (
        frame.explode(*lists)
        .drop_nulls("metrics")
        .select(
            pl.col("window_start").pipe(time),
            "window_size",
            pl.col("metrics").alias("metric"),
            pl.col("dimensions").pipe(json_text),
            "version",
            pl.col("values").alias("value"),
            pl.col("numerators").alias("numerator"),
            pl.col("denominators").alias("denominator"),
            "users",
            "is_final",
            *source(),
        )
        .pipe(clean)
    )


def metric_keys(tombstones: pl.DataFrame) -> pl.DataFrame:
    """What the keys `window_size|window_start|version|dimensions` stand for."""
    parts = pl.col("key").cast(pl.String).str.splitn("|", 4)
    return tombstones.select(
        parts.struct.field("field_1").cast(pl.Int64).pipe(time).alias("window_start"),
        parts.struct.field("field_0").alias("window_size"),
        parts.struct.field("field_3").pipe(json_text).alias("dimensions"),
        parts.struct.field("field_2").alias("version"),
        *source(),
    ).pipe(clean)


def dead_letter_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """The record's place is the key; where the dead letter lies is the source."""
    return frame.select(
        *_place(),
        "schema_id",
        "reason",
        "detail",
        hexed("payload"),
        hexed("key"),
        pl.col("failed_at").pipe(time),
        *source(),
    ).pipe(clean)


def late_event_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """As dead letters."""
    return frame.select(
        *_place(),
        "event_id",
        "event_type",
        "user_id",
        pl.col("timestamp").pipe(time),
        pl.col("watermark").pipe(time),
        "schema_id",
        hexed("payload"),
        *source(),
    ).pipe(clean)


def performance_rows(frame: pl.DataFrame, *, consent_default: str = "granted") -> pl.DataFrame:
    """Calls and feeds made. Without consent the user stays out; the future is not believed."""
    feed = pl.col("event_type") == "feed_generated"
    consent = pl.col("consent_analytics").fill_null(consent_default == "granted")
    rows = frame.filter(
        pl.col("event_type").is_in(["request", "feed_generated"]),
        pl.col("timestamp") <= pl.col("append_time") + _FUTURE_MS,
    )
    return rows.select(
        pl.col("timestamp").pipe(time).alias("created_at"),
        "event_id",
        pl.when(feed).then(pl.lit("feed_generated")).otherwise("method_name").alias("method_name"),
        pl.coalesce("generation_time_ms", "duration_ms").alias("duration_ms"),
        pl.when(consent).then("user_id").alias("user_id"),
        "response_size_bytes",
        "cache_hit",
        "error_type",
        pl.lit(pl.Series("context", _contexts(rows), dtype=pl.String)).pipe(json_text),
        *source(),
    ).pipe(clean)


def _contexts(rows: pl.DataFrame) -> list[str | None]:
    named = ("route", "status", "item_count", "personal_connections", "interest_based")
    contexts: list[str | None] = []
    for context, *others in rows.select("context", *named).iter_rows():
        found: dict[str, Any] = {pair["key"]: pair["value"] for pair in context or ()}
        found |= {
            name: value for name, value in zip(named, others, strict=True) if value is not None
        }
        contexts.append(json.dumps(found, ensure_ascii=False) if found else None)
    return contexts


def _place() -> tuple[pl.Expr, ...]:
    """Where the record in question lay, from the key `topic/partition/offset`.

    The record says so too, but in a frame `partition` and `offset` are its own.
    """
    key = pl.col("message_key").cast(pl.String)
    place = r"^(.*)/(\d+)/(\d+)$"
    return (
        key.str.extract(place, 1).alias("topic"),
        key.str.extract(place, 2).cast(pl.Int32).alias("partition"),
        key.str.extract(place, 3).cast(pl.Int64).alias("offset"),
    )
