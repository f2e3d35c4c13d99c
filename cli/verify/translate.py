"""Makes SQL for DuckDB of metric definitions: one query per grain and window size.

Upstream: `schemas.metrics`, whose docstring says what definitions mean. Downstream: `recompute`,
which runs the queries over the table `events` and names their columns by the same plan.
Invariants: everything that is summed, compared or counted is an int64; nothing here knows how the
worker computes the same. Table `events` has one row per accepted event: timestamp, event_type,
user_key (null without consent) and the fields that the definitions name, null where absent.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from streamgauge.cli.verify.cells import WINDOW_MS, Bound
from streamgauge.schemas.metric_fields import DERIVED
from streamgauge.schemas.metrics import (
    MAX_OBSERVATION,
    SCALE,
    Condition,
    Grain,
    Metric,
    Selection,
)

_COMPARE = {"eq": "=", "ne": "<>", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}

_DERIVED = {
    "page": "split_part(split_part(page_url, '?', 1), '#', 1)",
    "content_age_days": "CAST(floor((timestamp - published_at) / 864e5) AS BIGINT)",
    "is_error": "(coalesce(status >= 500, FALSE) OR error_type IS NOT NULL)",
    "watched_hours": (
        "(CASE action WHEN 'complete' THEN coalesce(position_ms, duration_ms)"
        " WHEN 'skip' THEN position_ms END / 36e5)"
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One named value of a row: columns of the query, and how they make the value."""

    name: str
    numerator: int  # position in the query's row
    denominator: int | None  # None: 1
    present: int  # the value is there when this column is not 0
    scale: int = 1  # of the numerator
    under: int = 1  # scale of the denominator
    bound: Bound = Bound.EXACT


@dataclass(frozen=True, kw_only=True, slots=True)
class Query:
    """SQL whose rows are window start, the dimensions, then what `series` and `users` point to."""

    sql: str
    series: Sequence[Series]
    users: int | None


def columns(grains: Iterable[Grain]) -> set[str]:
    """Fields of the events that the queries read."""
    named: set[str] = set()
    for grain in grains:
        named.update(grain.dimensions)
        for metric in grain.metrics:
            for selection in metric.selections:
                named.update(condition.field for condition in selection.where)
                if selection.field:
                    named.add(selection.field)
    derived = {name for name in named if name in DERIVED}
    return (named - derived).union(*(DERIVED[name].needs for name in derived))


def query(grain: Grain, window_size: str) -> Query:
    """The query of a grain for one window size."""
    select = _Select(fixed=1 + len(grain.dimensions))
    series: list[Series] = []
    users = None
    for metric in grain.metrics:
        made = _series(metric, select, window_size)
        series += made
        if metric is grain.users:
            users = made[0].numerator
    width = WINDOW_MS[window_size]
    start = f"timestamp - ((timestamp % {width}) + {width}) % {width}"
    keys = [start, *(f"CAST({_field(name)} AS VARCHAR)" for name in grain.dimensions)]
    takes_part = [_takes(s) for metric in grain.metrics for s in metric.selections]
    groups = ", ".join(str(n + 1) for n in range(len(keys)))
    return Query(
        sql=(
            f"SELECT {', '.join([*keys, *select.expressions])} FROM events"
            f" WHERE {' OR '.join(dict.fromkeys(takes_part))} GROUP BY {groups}"
        ),
        series=series,
        users=users,
    )


class _Select:
    """The aggregates of a query, each distinct one once."""

    def __init__(self, fixed: int) -> None:
        self._fixed = fixed
        self.expressions: list[str] = []

    def add(self, expression: str) -> int:
        if expression not in self.expressions:
            self.expressions.append(expression)
        return self._fixed + self.expressions.index(expression)

    def over(self, aggregate: str, selection: Selection) -> int:
        return self.add(f"{aggregate} FILTER (WHERE {_takes(selection)})")


def _series(metric: Metric, select: _Select, window_size: str) -> list[Series]:
    one = metric.selection
    observed = _observation(one)
    count = select.over("count(*)" if one.field is None else f"count({observed})", one)
    made = partial(Series, name=metric.name, denominator=None, present=count, scale=one.scale)
    match metric.aggregate:
        case "count":
            return [made(numerator=count, scale=1)]
        case "sum":
            return [made(numerator=_sum(one, select))]
        case "mean":
            return [made(numerator=_sum(one, select), denominator=count)]
        case "min" | "max":
            return [made(numerator=select.over(f"{metric.aggregate}({observed})", one))]
        case "distinct_users":
            users = select.over("count(DISTINCT user_key)", one)
            bound = Bound.EXACT if window_size == "1m" else Bound.USERS
            return [made(numerator=users, present=users, bound=bound)]
        case "quantiles":
            takes = f"{_takes(one)} AND {observed} IS NOT NULL"
            ranked = f"list_sort(list({observed}) FILTER (WHERE {takes}))"
            ranks = (f"floor({q!r} * (len({ranked}) - 1))" for q in metric.quantiles)
            picked = [select.add(f"{ranked}[1 + CAST({rank} AS BIGINT)]") for rank in ranks]
            return [
                made(name=name, numerator=value, bound=Bound.QUANTILE)
                for name, value in zip(metric.series, picked, strict=True)
            ]
        case "ratio":
            assert metric.denominator is not None
            bottom = _sum(metric.denominator, select)
            under = metric.denominator.scale
            top = _sum(one, select)
            return [made(numerator=top, denominator=bottom, present=bottom, under=under)]


def _sum(part: Selection, select: _Select) -> int:
    """A part's sum, or its count when it names no field."""
    if part.field is None:
        return select.over("count(*)", part)
    return select.add(f"coalesce(sum({_observation(part)}) FILTER (WHERE {_takes(part)}), 0)")


def _takes(selection: Selection) -> str:
    """Whether an event is one of a selection's: never null."""
    terms = [_condition(condition) for condition in selection.where]
    if selection.events is not None:
        terms.insert(0, f"event_type IN ({', '.join(map(_literal, selection.events))})")
    return f"coalesce({' AND '.join(terms)}, FALSE)" if terms else "TRUE"


def _condition(condition: Condition) -> str:
    field = _field(condition.field)
    match condition.operator:
        case "not_null":
            return f"{field} IS {'NOT ' if condition.value else ''}NULL"
        case "in":
            return f"{field} IN ({', '.join(map(_literal, condition.value))})"
        case operator:
            return f"{field} {_COMPARE[operator]} {_literal(condition.value)}"


def _observation(selection: Selection) -> str:
    """A field's value as an int64 within ±2^53; null is no observation."""
    if selection.field is None:
        return "1"
    value = _field(selection.field)
    if selection.kind == "float":
        value = f"round_even({value} * {SCALE}e0, 0)"
    elif selection.kind == "bool":
        value = f"CAST({value} AS BIGINT)"
    within = f"{value} BETWEEN -{MAX_OBSERVATION} AND {MAX_OBSERVATION}"
    return f"CASE WHEN {within} THEN CAST({value} AS BIGINT) END"


def _field(name: str) -> str:
    return _DERIVED.get(name) or '"' + name.replace('"', '""') + '"'


def _literal(value: object) -> str:
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value)


def duck_types(kinds: Mapping[str, str]) -> dict[str, str]:
    """Column types for the kinds of fields."""
    types = {"string": "VARCHAR", "int": "BIGINT", "float": "DOUBLE", "bool": "BOOLEAN"}
    return {name: types.get(kind, "BIGINT") for name, kind in kinds.items()}
