"""Profiles as rows: of users, of their devices, of their days; and which names are one person.

Upstream: decoded batches of `user-profiles`, `daily-analytics` and `user-links`. Downstream: the
sink. One record of `user-profiles` is a row in each of three tables, and in one of them a row for
each device.
"""

from __future__ import annotations

import json

import polars as pl

from streamgauge.schemas.profile_columns import tag_sums, with_counts
from streamgauge.schemas.profile_records import COUNTS, DEVICES, FIELDS, SUMS
from streamgauge.sinks.postgres.columns import array, clean, json_text, source, time

_READABLE = (
    *("events", "active_days", "current_streak", "active_days_7", "active_days_28"),
    *("days_since_last_seen", "engagement_score", "learning_velocity", "dropout_risk"),
    *("avg_session_seconds", "avg_quiz_score", "avg_completion", "preferred_device", "country"),
    *COUNTS,
    *SUMS,
)
_TIMES = ("computed_at", "first_seen", "last_seen")
_TEXTS = ("preferred_genres", "preferred_content_types")
_HOURS = ("preferred_hours", "preferred_watch_hours")
PROFILE_COLUMNS = frozenset({*_TIMES, *_READABLE, *_TEXTS, *_HOURS} & {*FIELDS}) | {
    *("user_id", "counts", "sums", "tags", "tag_sums")
}
DEVICE_KEY = ("user_id", "device_type")
DAY_COLUMNS = frozenset(
    {"user_id", "date", "tasks_created", "tasks_completed", "completion_rate"}
    | {"productivity_score", "events", "sessions", "minutes", "genres"}
)


def profile_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """One row a user."""
    return (
        with_counts(frame)
        .select(
            "user_id",
            pl.col(_TIMES).pipe(time),
            *_READABLE,
            *(array(name) for name in (*_TEXTS, *_HOURS)),
            _by_priority(frame),
            *source(),
        )
        .pipe(clean)
    )


def temporal_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """One row a user: when, how long, on what."""
    named = pl.sum_horizontal(f"{device}_events" for device in DEVICES)
    split = pl.struct(
        (pl.col(f"{device}_events") / named).alias(device) for device in DEVICES
    ).struct.json_encode()
    extended = pl.struct(
        "preferred_hours",
        "preferred_content_types",
        (pl.col("explored") / pl.col("exploration_said")).fill_nan(None).alias("exploration_share"),
        (pl.col("plays_skipped") / pl.col("plays")).fill_nan(None).alias("skip_rate"),
        (pl.col("plays_completed") / pl.col("plays")).fill_nan(None).alias("completion_rate"),
        (pl.col("zero_result_searches") / pl.col("searches"))
        .fill_nan(None)
        .alias("zero_result_share"),
        (pl.col("feedback") / 1e6 / pl.col("ratings_scored")).fill_nan(None).alias("feedback"),
    ).struct.json_encode()
    return (
        with_counts(frame)
        .select(
            "user_id",
            (pl.col("avg_session_seconds") / 60).alias("avg_session_length_minutes"),
            (pl.col("watched_ms") / 3_600_000).alias("total_watch_time_hours"),
            pl.col("binges").alias("binge_session_count"),
            array("preferred_genres"),
            array("preferred_watch_hours").alias("preferred_watch_times"),
            pl.when(named > 0).then(split).alias("device_split"),
            extended.str.replace_all("Infinity|-Infinity", "null")
            .pipe(json_text)
            .alias("extended_metrics"),
            pl.col("computed_at").pipe(time),
            *source(),
        )
        .pipe(clean)
    )


def device_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """One row a user and device type: the most frequent of each, ties by name."""
    counted = (
        _tags(frame)
        .with_columns(
            parts=pl.col("name").str.splitn("|", 2).struct.rename_fields(["device_type", "rest"])
        )
        .unnest("parts")
    )
    key = ("row", "device_type")
    devices = counted.filter(pl.col("kind") == "device").with_columns(
        screen_size=pl.col("rest").str.extract(r"(?s)^(.*)\|"),
        connection_speed=pl.col("rest").str.extract(r"\|([^|]*)$"),
    )
    total = devices.group_by(key, maintain_order=True).agg(pl.col("count").sum())
    rows = total.with_columns(share=pl.col("count") / pl.col("count").sum().over("row"))
    quality = counted.filter(pl.col("kind") == "quality").with_columns(preferred_quality="rest")
    for table, column in (
        (devices, "screen_size"),
        (devices, "connection_speed"),
        (quality, "preferred_quality"),
    ):
        best = (
            table.filter(pl.col(column) != "")
            .group_by(*key, column)
            .agg(pl.col("count").sum())
            .sort("count", column, descending=[True, False])
            .group_by(key, maintain_order=True)
            .agg(pl.col(column).first())
        )
        rows = rows.join(best, on=key, how="left", maintain_order="left")
    about = frame.select("user_id", "computed_at", *source()).with_row_index("row")
    return (
        rows.join(about, on="row", maintain_order="left")
        .select(
            "user_id",
            *("device_type", "screen_size", "connection_speed", "preferred_quality"),
            pl.struct(pl.col("count").alias("events"), "share")
            .struct.json_encode()
            .alias("usage_patterns"),
            pl.col("computed_at").pipe(time),
            *("source_partition", "source_offset"),
        )
        .pipe(clean)
    )


def day_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """One row a user and day."""
    return frame.select(
        "user_id",
        pl.col("date").pipe(time),
        *("tasks_created", "tasks_completed", "completion_rate", "productivity_score"),
        *("events", "sessions", "minutes"),
        array("genres"),
        *source(),
    ).pipe(clean)


def link_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """One row a pair of names."""
    return frame.select("anonymous_id", "user_id", pl.col("linked_at").pipe(time), *source()).pipe(
        clean
    )


def _tags(frame: pl.DataFrame) -> pl.DataFrame:
    """What is counted by name: row, kind, name, count."""
    kind, name = (pl.col("tags").str.splitn(":", 2).struct.field(f"field_{n}") for n in (0, 1))
    flat = frame.select("tags").with_row_index("row").explode("tags", empty_as_null=False)
    return flat.drop_nulls("tags").select(
        "row",
        kind.alias("kind"),
        name.alias("name"),
        pl.Series("count", tag_sums(frame)[:, 1].copy()),
    )


def _by_priority(frame: pl.DataFrame) -> pl.Series:
    """`{"high": {"created": 2, "completed": 1}}`; null where no task has a priority."""
    texts: list[str | None] = [None] * frame.height
    tasks = _tags(frame).filter(pl.col("kind").is_in(["created", "completed"]))
    found: dict[int, dict[str, dict[str, int]]] = {}
    for row, kind, name, count in tasks.iter_rows():
        found.setdefault(row, {}).setdefault(name, {})[kind] = count
    for row, priorities in found.items():
        texts[row] = json.dumps(priorities, ensure_ascii=False)
    column = pl.Series("tasks_by_priority", texts, dtype=pl.String)
    return column.to_frame().select(pl.col("tasks_by_priority").pipe(json_text)).to_series()
