"""To which experiments each user was exposed: who assigns variants keeps them in by it.

Upstream: decoded batches of `exposures`. Downstream: the sink's script, and whoever looks up:

    {prefix}{exposures-<partition>}:user:<user id>          set of experiments

A user is in the partition of the events' key (murmur2, as Kafka's clients partition). Rows are
written again while users do something; a TTL frees the memory of those who do not come back.
"""

from __future__ import annotations

import polars as pl

from streamgauge.sinks.redis.commands import Commands

COLUMNS = frozenset({"user_id", "experiment"})
_TTL_MS = str(90 * 86_400_000)


def apply(rows: pl.DataFrame, commands: dict[int, Commands]) -> None:
    """Adds what the rows of a batch come to."""
    found: dict[tuple[int, str], dict[str, None]] = {}
    told = rows.drop_nulls(["user_id", "experiment"]).select("partition", "user_id", "experiment")
    for partition, user, experiment in told.iter_rows():
        found.setdefault((partition, f"user:{user}"), {})[experiment] = None
    for (partition, key), experiments in found.items():
        commands[partition].add("SADD", key, list(experiments))
        commands[partition].add("PEXPIRE", key, [_TTL_MS])
