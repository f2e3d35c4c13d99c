"""Metric definitions: what is counted, by what, in which windows, as data from YAML.

Upstream: `catalogue/metrics.yaml`, and definitions files of users. Downstream: the worker
(`streams.metrics.plan` makes polars expressions of them), `verify` (makes SQL of them, on its
own), and the CLI. A file reads

    extends: builtin                 # the catalogue, and then these; or: none
    metrics:
      - name: page_views
        description: Pages viewed.
        events: [page_view]          # default: every type
        where: {status: {lt: 500}}   # field: value | [values] | {eq ne lt le gt ge in not_null}
        aggregate: count             # count sum mean min max distinct_users ratio quantiles
        by: [[], [page]]             # or dimensions: [page] for a single one; default: []
        windows: [1m, 1h, 1d]        # default: all three
        anomalies: true              # watch the total; or [[], [page]]: these breakdowns

A metric of the same name replaces the catalogue's. The exact meaning, which `verify` shares:

- A condition on an absent value does not hold (`not_null: false` is the one that does).
- A *grain* is a set of dimensions and windows. Its metrics share one wide row per window and
  combination of dimension values; an event takes part in a grain when at least one metric's (or
  a ratio's part's) events and conditions take it. A grain has at most one distinct_users metric:
  it is the row's `users`; a second one gets a grain of its own.
- Booleans count as 0 and 1. A value of type float is scaled by 1,000,000 and rounded half to
  even; integers are taken as they are; sums, minima and maxima work on these integers. An absent
  value, or one beyond ±2^53 once scaled, is no observation: neither summed nor counted.
- value = numerator / denominator: count n/1; sum s/1; mean s/n over the observations; min and max
  v/1; ratio a/b, where a part without `field` is a count, with it a sum; distinct_users n/1;
  quantiles v/1 each, as series `name_p50`. A metric without observations in a row (for a ratio:
  b = 0) is left out of that row.
- quantiles: DDSketch buckets of relative accuracy 1 %: b = ceil(ln v / ln g), g = 1.01/0.99;
  v ≤ 1e-9 is the zero bucket. The quantile is the value of the bucket with rank
  floor(q·(n-1)), from 0: 2·g^b/(g+1), or 0.
- Dimension values are text: integers in decimal, booleans `true` and `false`. The row's
  `dimensions` is `json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)`.

Invariants: definitions are complete and correct once loaded, or loading fails with the line and
what is allowed; a grain's version is a hash of what its rows mean, and of nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from streamgauge.schemas.metric_checks import Operator, faults_of, kind_of
from streamgauge.schemas.metric_definition import (
    Aggregate,
    MetricDefinition,
    MetricFile,
    Part,
    WindowSize,
    explained,
)
from streamgauge.schemas.metric_fields import Kind
from streamgauge.schemas.metric_file import (
    DefinitionError,
    load,
)

WINDOW_MS: dict[str, int] = {"1m": 60_000, "1h": 3_600_000, "1d": 86_400_000}
SCALE = 1_000_000
"""Real numbers become integers by this factor."""

MAX_OBSERVATION = 2**53
QUANTILE_ACCURACY = 0.01
GAMMA = (1 + QUANTILE_ACCURACY) / (1 - QUANTILE_ACCURACY)
SMALLEST_QUANTILE_VALUE = 1e-9

CATALOGUE = Path(__file__).parent / "catalogue" / "metrics.yaml"


@dataclass(frozen=True, kw_only=True, order=True)
class Condition:
    field: str
    operator: Operator
    value: Any
    """A scalar; for `in` a tuple of scalars; for `not_null` a bool."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which events, and what is read from each: a field's value, or just that it is there."""

    events: tuple[str, ...] | None
    """Sorted; None is every type."""
    where: tuple[Condition, ...]
    """Sorted; all must hold."""
    field: str | None
    kind: Kind | None
    """Of the field."""
    kinds: tuple[tuple[str, Kind], ...]
    """Kind of each field that `where` and `field` name, sorted."""

    @property
    def scale(self) -> int:
        return SCALE if self.kind == "float" else 1


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One aggregate within a grain."""

    name: str
    aggregate: Aggregate
    selection: Selection
    """For a ratio: the numerator."""
    denominator: Selection | None
    """Of a ratio; None for all others."""
    quantiles: tuple[float, ...]

    @property
    def selections(self) -> tuple[Selection, ...]:
        return (self.selection,) if self.denominator is None else (self.selection, self.denominator)

    @property
    def series(self) -> tuple[str, ...]:
        """Names of its values in the rows."""
        if self.aggregate != "quantiles":
            return (self.name,)
        return tuple(f"{self.name}_{percentile(q)}" for q in self.quantiles)


@dataclass(frozen=True, kw_only=True)
class Grain:
    """Metrics that share a row."""

    version: str
    """Its id, 8 hex digits: changes with the meaning of the rows."""
    dimensions: tuple[str, ...]
    """Sorted."""
    windows: tuple[WindowSize, ...]
    """From small to large."""
    metrics: tuple[Metric, ...]
    """Sorted by name."""

    @property
    def users(self) -> Metric | None:
        """The metric that is the row's `users`."""
        return next((m for m in self.metrics if m.aggregate == "distinct_users"), None)


@dataclass(frozen=True, kw_only=True)
class Series:
    """A name in the rows' `metrics`, for listings."""

    name: str
    metric: str
    aggregate: Aggregate
    dimensions: tuple[tuple[str, ...], ...]
    windows: tuple[WindowSize, ...]
    unit: str | None
    description: str


def percentile(q: float) -> str:
    """p50, p95, p99_9."""
    return "p" + f"{q * 100:.10g}".replace(".", "_")


@dataclass(frozen=True)
class Definitions:
    """A complete, correct set of definitions."""

    metrics: tuple[MetricDefinition, ...]

    def grains(self) -> list[Grain]:
        """One for each set of dimensions and windows, in a stable order."""
        groups: dict[tuple[Any, ...], list[Metric]] = {}
        for definition in sorted(self.metrics, key=lambda metric: metric.name):
            metric = _metric(definition)
            for dimensions in definition.breakdowns:
                place: tuple[Any, ...] = (dimensions, definition.sizes)
                if metric.aggregate == "distinct_users" and any(
                    other.aggregate == "distinct_users" for other in groups.get(place, ())
                ):
                    place = (*place, metric.name)
                groups.setdefault(place, []).append(metric)
        return [
            Grain(
                version=_version(place[0], place[1], metrics),
                dimensions=place[0],
                windows=place[1],
                metrics=tuple(metrics),
            )
            for place, metrics in sorted(groups.items(), key=lambda item: repr(item[0]))
        ]

    def series(self) -> list[Series]:
        """Every name that rows can carry, sorted."""
        return sorted(
            (
                Series(
                    name=name,
                    metric=definition.name,
                    aggregate=definition.aggregate,
                    dimensions=definition.breakdowns,
                    windows=definition.sizes,
                    unit=definition.unit,
                    description=definition.description,
                )
                for definition in self.metrics
                for name in _metric(definition).series
            ),
            key=lambda series: series.name,
        )


def load_definitions(source: Path | str, name: str = "<text>") -> Definitions:
    """Definitions from a file (a Path) or from YAML text (a str); see the module's docstring.

    Raises DefinitionError with every problem found, each with file and line.
    """
    file, name = load(source, name, MetricFile, explained, lambda file: faults_of(file.metrics))
    named = {}
    if file.extends == "builtin":
        named = {metric.name: metric for metric in builtin().metrics}
    named |= {metric.name: metric for metric in file.metrics}
    definitions = Definitions(tuple(named.values()))
    twice = Counter(series.name for series in definitions.series())
    if clashes := [series for series, times in twice.items() if times > 1]:
        raise DefinitionError(
            [f"{name}: several metrics have a series {', '.join(clashes)}: rename all but one"]
        )
    return definitions


@cache
def builtin() -> Definitions:
    """The built-in catalogue."""
    return load_definitions(CATALOGUE)


def _conditions(where: Mapping[str, Any]) -> tuple[Condition, ...]:
    found = []
    for field, given in where.items():
        pairs: dict[Operator, Any] = given if isinstance(given, dict) else {"eq": given}
        if isinstance(given, list):
            pairs = {"in": given}
        for operator, value in pairs.items():
            if isinstance(value, list):
                value = tuple(sorted(value))
            found.append(Condition(field=field, operator=operator, value=value))
    return tuple(sorted(found, key=lambda condition: (condition.field, condition.operator)))


def selection_of(part: Part) -> Selection:
    """What a part of a definition, checked before, takes of events."""
    used = sorted({*part.where, *([part.field] if part.field else [])})
    kinds = {field: kind for field in used if (kind := kind_of(field, part.events))}
    return Selection(
        events=None if part.events is None else tuple(sorted(set(part.events))),
        where=_conditions(part.where),
        field=part.field,
        kind=kinds[part.field] if part.field else None,
        kinds=tuple(kinds.items()),
    )


def _metric(definition: MetricDefinition) -> Metric:
    return Metric(
        name=definition.name,
        aggregate=definition.aggregate,
        selection=selection_of(definition.numerator or definition),
        denominator=selection_of(definition.denominator) if definition.denominator else None,
        quantiles=tuple(sorted(set(definition.quantiles or ()))),
    )


def _version(
    dimensions: Sequence[str], windows: Sequence[WindowSize], metrics: Sequence[Metric]
) -> str:
    canonical = [
        list(dimensions),
        list(windows),
        [
            [
                metric.name,
                metric.aggregate,
                [
                    [s.events, [[c.field, c.operator, c.value] for c in s.where], s.field, s.kinds]
                    for s in metric.selections
                ],
                metric.quantiles,
            ]
            for metric in metrics
        ],
    ]
    return hashlib.sha256(json.dumps(canonical).encode()).hexdigest()[:8]
