"""A rule's condition over columns of profiles: one mask for all users at once.

Upstream: expressions that `schemas.segments` has checked. Downstream: `evaluation.py`. Numbers are
doubles, NaN is absent; a text column is compared by polars. What the operators mean, above all for
what is absent, is said in `schemas/expressions.py`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl

from streamgauge.schemas.expressions import (
    Absence,
    Among,
    Arithmetic,
    Comparison,
    Constant,
    Expression,
    Field,
    Junction,
    Not,
    Value,
)

Array = np.ndarray
Columns = Mapping[str, Any]
"""Float64 arrays of numbers and bools; polars series of texts."""

_COMPARE: Mapping[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


def columns_of(profiles: pl.DataFrame, names: list[str]) -> Columns:
    """These fields, as conditions read them."""
    found: dict[str, Any] = {}
    for name in names:
        series = profiles[name]
        if series.dtype == pl.Boolean:
            series = series.cast(pl.Int8)
        # Polars makes NaN of nulls on the way.
        is_text = series.dtype == pl.String
        found[name] = series if is_text else series.to_numpy().astype(np.float64, copy=False)
    return found


def holds(expression: Expression, columns: Columns, height: int) -> Array:
    """For each row: whether it does."""
    match expression:
        case Field(name):
            return columns[name] == 1.0
        case Not(condition):
            return ~holds(condition, columns, height)
        case Junction(kind, conditions):
            all_of = kind == "and"
            found = np.full(height, all_of)
            for condition in conditions:
                one = holds(condition, columns, height)
                found = found & one if all_of else found | one
            return found
        case Absence(field, negated):
            return _absent(columns[field.name]) ^ negated
        case Comparison(symbol, left, right):
            return _compared(symbol, _value(left, columns), _value(right, columns), height)
        case Among(value, options, negated):
            return _among(_value(value, columns), options, negated, height)


def _value(value: Value, columns: Columns) -> Any:
    """An array, a series or, of constants alone, a scalar."""
    match value:
        case Field(name):
            return columns[name]
        case Constant(constant):
            return constant
        case Arithmetic(symbol, left, right):
            one, two = np.asarray(_value(left, columns)), np.asarray(_value(right, columns))
            with np.errstate(all="ignore"):
                match symbol:
                    case "+":
                        return one + two
                    case "-":
                        return one - two
                    case "*":
                        return one * two
                    case "/":
                        return np.where(two == 0, np.nan, one / two)


def _compared(symbol: str, left: Any, right: Any, height: int) -> Array:
    if isinstance(right, pl.Series) and isinstance(left, str):
        left, right = right, left  # texts are equal or not: the order is all one
    found = _COMPARE[symbol](left, right)
    if isinstance(found, pl.Series):
        return _of_series(found)
    if symbol == "!=":  # the only one that holds for NaN
        found = found & (left == left) & (right == right)
    return found if isinstance(found, np.ndarray) else np.full(height, bool(found))


def _among(value: Any, options: tuple[Any, ...], negated: bool, height: int) -> Array:
    if isinstance(value, pl.Series):
        known = value.is_in(list(options))
        return _of_series(~known if negated else known)
    if isinstance(value, str):
        return np.full(height, (value in options) ^ negated)
    found = np.isin(value, options) ^ negated
    return np.broadcast_to(found & ~np.isnan(value), height)


def _absent(column: Any) -> Array:
    if isinstance(column, pl.Series):
        return _of_series(column.is_null())
    return np.isnan(column)


def _of_series(mask: pl.Series) -> Array:
    return mask.fill_null(False).to_numpy()
