"""Moves and counts of segments as rows: one a stay, and one an hour and source partition.

Upstream: decoded batches of `user-segments` and `segment-counts`. Downstream: the sink. A stay's
row is written twice: when the user enters, and when the user leaves, which keeps the first reason.
"""

from __future__ import annotations

import polars as pl

from streamgauge.sinks.postgres.columns import clean, json_text, source, time

STAY = ("user_id", "segment", "entered_at")
REASON_IN = ("reason_in",)
"""What only the first record of a stay says."""


def stay_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """Without the records that are rules, which only the worker reads."""
    return (
        frame.drop_nulls("user_id")
        .select(
            "user_id",
            "segment",
            pl.col("entered_at", "left_at").pipe(time),
            pl.col("reason_in", "reason_out").pipe(json_text),
            "rule_version",
            *source(),
        )
        .pipe(clean)
    )


def count_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """The source partition is that of the topic."""
    return frame.select("segment", pl.col("at").pipe(time), "members", *source()).pipe(clean)
