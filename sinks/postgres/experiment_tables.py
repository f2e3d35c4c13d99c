"""Exposures and results of experiments as rows.

Upstream: decoded batches of `exposures` and `experiment-results`. Downstream: the sink. What a user
did is in the topic for the worker alone, and not in the table: it is written less often than it
changes.
"""

from __future__ import annotations

import polars as pl

from streamgauge.schemas.experiment_records import ExperimentResult
from streamgauge.sinks.postgres.columns import clean, json_text, source, time

EXPOSURE_COLUMNS = frozenset({"experiment", "user_id", "variant", "exposed_at", "variants"})
RESULT = ("experiment", "metric", "variant", "as_of")


def exposure_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """One row a user and experiment."""
    return frame.select(
        "experiment",
        "user_id",
        "variant",
        pl.col("exposed_at").pipe(time),
        pl.col("variants").pipe(json_text),
        *source(),
    ).pipe(clean)


def result_rows(frame: pl.DataFrame) -> pl.DataFrame:
    """One row a metric, variant and look."""
    others = [name for name in ExperimentResult.__slots__ if name not in ("as_of", "analysis")]
    return frame.select(
        *others,
        pl.col("as_of").pipe(time),
        pl.col("analysis").pipe(json_text),
        *source(),
    ).pipe(clean)
