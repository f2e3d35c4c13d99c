"""The rule of `consent.py` for frames of events (needs polars)."""

from __future__ import annotations

import polars as pl

from streamgauge.schemas.consent import ConsentDefault


def identifiable_rows(default: ConsentDefault) -> pl.Expr:
    """True where the event may count for its user; never null."""
    return pl.col("consent_analytics").fill_null(default == "granted")
