"""Memberships as sets: who is in a segment, and in which segments somebody is.

Upstream: decoded batches of `user-segments`. Downstream: the sink's script, and whoever looks up:

    {prefix}{user-segments-<partition>}:segment:<segment>   set of user ids
    {prefix}{user-segments-<partition>}:user:<user id>      set of segments

A user is in the partition of the events' key (murmur2, as Kafka's clients partition). A segment's
members are those of all partitions together.
"""

from __future__ import annotations

import polars as pl

from streamgauge.sinks.redis.commands import Commands

COLUMNS = frozenset({"user_id", "segment", "left_at"})


def apply(rows: pl.DataFrame, commands: dict[int, Commands]) -> None:
    """Adds what the rows of a batch come to; of a user and segment, the last row counts."""
    last = {
        (partition, user, segment): left_at is None
        for partition, user, segment, left_at in rows.drop_nulls("user_id")
        .select("partition", "user_id", "segment", "left_at")
        .iter_rows()
    }
    by_key: dict[tuple[int, str, bool], list[str]] = {}
    for (partition, user, segment), is_member in last.items():
        by_key.setdefault((partition, f"segment:{segment}", is_member), []).append(user)
        by_key.setdefault((partition, f"user:{user}", is_member), []).append(segment)
    for (partition, key, is_member), members in by_key.items():
        commands[partition].add("SADD" if is_member else "SREM", key, members)
