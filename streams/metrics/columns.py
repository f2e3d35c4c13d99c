"""The columns that definitions read: conditions and derived fields as polars expressions.

Upstream: the wide frame of decoded events. Downstream: `plan.py`. What the derived fields mean is
said once, in `schemas.metric_fields.DERIVED`.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import polars as pl

from streamgauge.schemas.metric_fields import DERIVED, Kind
from streamgauge.schemas.metrics import MAX_OBSERVATION, SCALE, Condition

Array = np.ndarray

_COMPARE: dict[str, Any] = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
    "in": lambda column, values: column.is_in(list(values)),
    "not_null": lambda column, wanted: column.is_not_null() == wanted,
}


def _watched_hours() -> pl.Expr:
    position = pl.col("position_ms").cast(pl.Float64)
    ended = pl.coalesce(position, pl.col("duration_ms"))
    action = pl.col("action")
    watched = pl.when(action == "complete").then(ended).when(action == "skip").then(position)
    # By a constant polars multiplies by its reciprocal, which is not the quotient that everybody
    # else gets; by a column it divides.
    hour = action.is_null().cast(pl.Float64) * 0 + 3.6e6
    return (watched / hour).fill_nan(None)


_DERIVED: dict[str, pl.Expr] = {
    "page": pl.col("page_url").str.replace("(?s)[?#].*", ""),
    "content_age_days": (pl.col("timestamp") - pl.col("published_at")) // 86_400_000,
    "is_error": pl.col("status").ge(500).fill_null(False) | pl.col("error_type").is_not_null(),
    "watched_hours": _watched_hours(),
}


def needed(fields: Iterable[str]) -> frozenset[str]:
    """The columns to decode for these fields."""
    return frozenset(
        column
        for field in fields
        for column in (DERIVED[field].needs if field in DERIVED else (field,))
    )


def derived(fields: Iterable[str]) -> list[pl.Expr]:
    """Those of the fields that are computed, by their names."""
    return [_DERIVED[field].alias(field) for field in fields if field in _DERIVED]


def condition(where: Sequence[Condition]) -> pl.Expr:
    """Whether all of these hold."""
    terms = [_COMPARE[c.operator](pl.col(c.field), c.value) for c in where]
    return functools.reduce(operator.and_, terms).fill_null(False)


def observed(field: str, kind: Kind) -> tuple[pl.Expr, pl.Expr]:
    """Which values of a field are observations, and the values as numbers (not yet scaled)."""
    value = pl.col(field).cast(pl.Float64 if kind == "float" else pl.Int64)
    limit = MAX_OBSERVATION / (SCALE if kind == "float" else 1)
    return value.is_between(-limit, limit).fill_null(False), value.fill_null(0)


def scaled(values: Array) -> Array:
    """Numbers as integers: real ones by the scale, rounded half to even."""
    return np.rint(values * float(SCALE)).astype(np.int64) if values.dtype.kind == "f" else values
