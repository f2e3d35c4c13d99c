"""The latest results of experiments as hashes: who serves them need not ask the database.

Upstream: decoded batches of `experiment-results`. Downstream: the sink's script, and whoever looks:

    {prefix}{experiment-results-<partition>}:results:<experiment>   metric|variant → JSON of figures

All of an experiment is in one partition. Figures are those of the table `experiment_latest`.
"""

from __future__ import annotations

import json

import polars as pl

from streamgauge.sinks.redis.commands import Commands

COLUMNS: frozenset[str] = frozenset(
    {"experiment", "metric", "variant", "as_of", "state", "role", "is_control", "users", "mean"}
    | {"lift_absolute", "lift_relative", "ci_sequential_low", "ci_sequential_high"}
    | {"p_sequential", "p_adjusted", "srm_p", "users_excluded", "verdict", "days_to_go"}
)


def apply(rows: pl.DataFrame, commands: dict[int, Commands]) -> None:
    """Sets what the last row of each metric and variant says."""
    last = {
        (row["partition"], row["experiment"], row["metric"], row["variant"]): row
        for row in rows.select("partition", *sorted(COLUMNS)).iter_rows(named=True)
        if row["experiment"] is not None
    }
    fields: dict[tuple[int, str], list[str]] = {}
    for (partition, experiment, metric, variant), row in last.items():
        told = {name: row[name] for name in sorted(COLUMNS)}
        of = fields.setdefault((partition, experiment), [])
        of += [f"{metric}|{variant}", json.dumps(told, ensure_ascii=False)]
    for (partition, experiment), pairs in fields.items():
        commands[partition].add("HSET", f"results:{experiment}", pairs)
