"""Profiles as hashes: the current figures of each user, for look-ups while somebody waits.

Upstream: decoded batches of `user-profiles`. Downstream: the sink's script, and whoever looks up:

    {prefix}{user-profiles-<partition>}:user:<user id>      field → value; lists as JSON

A user is in the partition of the events' key (murmur2, as Kafka's clients partition). Who was not
seen for 30 days of event time has no hash any more: records are written anew with each day. A TTL
frees the memory where the sink itself is gone; it does not decide what is seen.
"""

from __future__ import annotations

import json

import polars as pl

from streamgauge.sinks.redis.commands import Commands

FIELDS = (
    *("computed_at", "first_seen", "last_seen", "events", "sessions", "active_days"),
    *("current_streak", "days_since_last_seen", "engagement_score", "learning_velocity"),
    *("dropout_risk", "avg_session_seconds", "preferred_device", "preferred_genres"),
    *("preferred_content_types", "preferred_hours", "country"),
)
COLUMNS = frozenset({"user_id", *FIELDS})
KEEP_DAYS = 30
_TTL_MS = str(90 * 86_400_000)


def apply(rows: pl.DataFrame, commands: dict[int, Commands]) -> None:
    """Adds what the rows of a batch come to; of a user, the last row counts."""
    last = rows.drop_nulls("user_id").unique("user_id", keep="last", maintain_order=True)
    for row in last.select("partition", "user_id", *FIELDS).iter_rows(named=True):
        to, key = commands[row["partition"]], f"user:{row['user_id']}"
        if (row["days_since_last_seen"] or 0) > KEEP_DAYS:
            to.add("DEL", key)
            continue
        values: list[str] = []
        for name in FIELDS:
            values += (name, _text(row[name]))
        to.add("HSET", key, values)
        to.add("PEXPIRE", key, [_TTL_MS])


def _text(value: object) -> str:
    if value is None:
        return ""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list) else str(value)
