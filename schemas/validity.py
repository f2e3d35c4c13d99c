"""What makes a decoded row an event: ids, a type, a user and a sensible time.

Upstream: frames of events from `columnar.py`, whoever wrote the records: our own classes check
more than this, and earlier. What is no event becomes a reject with the reason `invalid`.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from streamgauge.schemas.envelope import MAX_TIMESTAMP

TICK = "tick"
"""The event_type of rows that are ticks; no event may call itself so."""


def has_fault(frame: pl.DataFrame) -> bool:
    """Whether any row may be no event; cheap, because almost always there is none."""
    if not frame.height:
        return False
    texts = [frame[name] for name in ("event_id", "event_type", "user_key")]
    time = frame["timestamp"]
    low, high = time.min(), time.max()
    return (
        any(text.null_count() or (text == "").any() for text in texts)
        or (frame["event_type"] == TICK).any()
        or time.null_count() > 0
        or not 0 < low < high + 1 <= MAX_TIMESTAMP  # type: ignore[operator]
    )


def outside_time() -> pl.Expr:
    return ~pl.col("timestamp").is_between(0, MAX_TIMESTAMP, closed="none").fill_null(False)


FAULTY = pl.any_horizontal(
    *(pl.col(name).fill_null("") == "" for name in ("event_id", "event_type", "user_key")),
    pl.col("event_type") == TICK,
    outside_time(),
).fill_null(False)


def fault(row: dict[str, Any]) -> str:
    """Why a row is no event: the first reason."""
    for name in ("event_id", "event_type"):
        if not row[name]:
            return f"{name}: missing"
    if row["event_type"] == TICK:
        return f"event_type: {TICK} is no event type"
    return time_fault(row) if row["user_key"] else "needs a user_id or an anonymous_id"


def time_fault(row: dict[str, Any]) -> str:
    return f"timestamp: {row['timestamp']} is not between 0 and the year 2200"
