"""Anomalies as rows: one a flag, as it was told last; and what is done about users.

Upstream: decoded batches of the topics `anomalies` and `actions`. Downstream: the sink. Who has
taken notice of one stands in `anomaly_acks`, which the sink does not touch.
"""

from __future__ import annotations

import polars as pl

from streamgauge.sinks.postgres.columns import clean, json_text, source, time

ANOMALY = ("series", "detector", "started_at")
ACTION = ("action", "user_id", "anomaly_id")


def anomaly_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """As told."""
    return frame.select(
        *("anomaly_id", "series", "metric", pl.col("dimensions").pipe(json_text), "user_id"),
        *("detector", "severity", pl.col("started_at", "ended_at").pipe(time)),
        *("expected", "observed", "score", "points", "version", "is_final"),
        *source(),
    ).pipe(clean)


def action_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """As written last."""
    return frame.select(
        *ACTION,
        *("detector", "severity", "rate"),
        pl.col("started_at", "ended_at", "undone_at").pipe(time),
        *("undone_by", "note"),
        pl.col("excluded_from", "excluded_until").pipe(time),
        *source(),
    ).pipe(clean)
