"""What can be wrong with a metric's definition, beyond its shape: one fault a sentence.

Upstream: definitions as `metrics.py` read them. Every fault says where it is and what is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from streamgauge.schemas.events import EVENT_TYPES, Event
from streamgauge.schemas.metric_fields import DERIVED, Kind, field_kind
from streamgauge.schemas.metric_file import Fault, Place, suggest

if TYPE_CHECKING:
    from streamgauge.schemas.metric_definition import MetricDefinition, Part

Operator = Literal["eq", "ne", "lt", "le", "gt", "ge", "in", "not_null"]

NUMERIC: tuple[Kind, ...] = ("int", "float", "bool")
DIMENSION_KINDS: tuple[Kind, ...] = ("string", "int", "bool")
ONE_EACH = ("user_id", "anonymous_id", "session_id", "event_id")
"""No dimensions: a row for each person would be one for those who deny consent, too."""


def faults_of(metrics: Iterable[MetricDefinition]) -> Iterator[Fault]:
    """Everything wrong with the entries of one file."""
    seen: dict[str, int] = {}
    for index, metric in enumerate(metrics):
        path: Place = ("metrics", index)
        if metric.name in seen:
            yield (
                (*path, "name"),
                f"there is already a metric of this name (number {seen[metric.name]})",
            )
        seen.setdefault(metric.name, index + 1)
        yield from _metric_faults(metric, path)


def _metric_faults(metric: MetricDefinition, path: Place) -> Iterator[Fault]:
    wants = {
        "ratio": {"numerator", "denominator"},
        "quantiles": {"field", "quantiles"},
        "count": set(),
        "distinct_users": set(),
    }.get(metric.aggregate, {"field"})
    for key in ("field", "numerator", "denominator", "quantiles"):
        given = getattr(metric, key) is not None
        if key in wants and not given:
            yield path, f"aggregate {metric.aggregate} needs {key}"
        elif given and key not in wants:
            yield (*path, key), f"aggregate {metric.aggregate} takes no {key}"
    if metric.by is not None and metric.dimensions is not None:
        yield (*path, "by"), "give either by or dimensions"
    yield from _watched_faults(metric, path)
    yield from part_faults(metric, path)
    parts: list[Part] = [metric]
    for key in ("numerator", "denominator"):
        if part := getattr(metric, key):
            if metric.events is not None or metric.where:
                yield (*path, key), "events and where of a ratio stand in its two parts"
            yield from part_faults(part, (*path, key))
            parts.append(part)
    if "numerator" in wants:
        parts = parts[1:]
    place = "by" if metric.by is not None else "dimensions"
    for dimension in dict.fromkeys(d for dims in metric.breakdowns for d in dims):
        if dimension in ONE_EACH:
            yield (*path, place), f"{dimension} names one person or event: count distinct_users"
            continue
        for part in parts:
            fault = _field_fault(dimension, part.events, DIMENSION_KINDS)
            if fault:
                yield (*path, place), f"dimension {fault}"
                break


def _watched_faults(metric: MetricDefinition, path: Place) -> Iterator[Fault]:
    known = {", ".join(dims) or "[]": dims for dims in metric.breakdowns}
    for dims in metric.watched:
        if dims not in known.values():
            named = ", ".join(dims) or "[]"
            fault = f"no breakdown {named} to watch: {suggest(named, known)}"
            yield (*path, "anomalies"), fault
    if metric.watched and "1m" not in metric.windows:
        yield (*path, "anomalies"), "minutes are watched, and 1m is not among the windows"


def part_faults(part: Part, path: Place) -> Iterator[Fault]:
    """What is wrong with the events, conditions and field of a metric or a part of it."""
    unknown = [event for event in part.events or () if event not in EVENT_TYPES]
    for event in unknown:
        yield (*path, "events"), f"unknown event type {event}: {suggest(event, EVENT_TYPES)}"
    if unknown:
        return
    if part.field is not None and (fault := _field_fault(part.field, part.events, NUMERIC)):
        yield (*path, "field"), f"field {fault}"
    for field, condition in part.where.items():
        place = (*path, "where", field)
        if fault := _field_fault(field, part.events, get_args(Kind)):
            yield place, f"field {fault}"
        else:
            kind = kind_of(field, part.events)
            for fault in _condition_faults(field, kind, condition):
                yield place, fault


def _classes(events: Sequence[str] | None) -> list[type[Event]]:
    """The named types; for all types what they have in common."""
    return [Event] if events is None else [EVENT_TYPES[e] for e in events if e in EVENT_TYPES]


def kind_of(field: str, events: Sequence[str] | None) -> Kind | None:
    """What it holds; the types that have it agree (`envelope.register_event` sees to it)."""
    return field_kind(_classes(events)[0], field)


def _field_fault(field: str, events: Sequence[str] | None, allowed: Sequence[Kind]) -> str | None:
    classes = _classes(events)
    kinds = {cls: field_kind(cls, field) for cls in classes}
    without = [cls for cls, kind in kinds.items() if kind is None]
    if without:
        owner = without[0].model_fields["event_type"].default if events else "every event type"
        names = (*without[0].model_fields, *DERIVED)
        fields = {name for name in names if field_kind(without[0], name) in allowed}
        hint = "" if events else " (or name the events)"
        return f"{field} is unknown to {owner}{hint}: {suggest(field, fields)}"
    kind = next(iter(kinds.values()), None)
    if kind is not None and kind not in allowed:
        return f"{field} is of kind {kind}: allowed here: {', '.join(allowed)}"
    return None


def _condition_faults(field: str, kind: Kind | None, condition: Any) -> Iterator[str]:
    pairs = condition if isinstance(condition, dict) else {"eq": condition}
    if isinstance(condition, list):
        pairs = {"in": condition}
    if not pairs:
        yield f"no condition for {field}: allowed: a value, a list of values, or operators"
    for operator, value in pairs.items():
        if operator not in get_args(Operator):
            yield f"unknown operator {operator}: {suggest(str(operator), get_args(Operator))}"
        elif operator == "not_null":
            if not isinstance(value, bool):
                yield f"not_null is {value!r}: allowed: true, false"
        elif operator in ("lt", "le", "gt", "ge") and kind not in ("int", "float", "time"):
            yield f"{operator} needs a number, and {field} is of kind {kind}"
        elif (operator == "in") != isinstance(value, list) or value == []:
            yield f"{operator} of {field} is {value!r}: allowed: " + (
                "a list of values" if operator == "in" else "one value"
            )
        else:
            for item in value if isinstance(value, list) else [value]:
                if not _fits(kind, item):
                    yield f"{field} is of kind {kind} and cannot be {item!r}"


def _fits(kind: Kind | None, value: Any) -> bool:
    if kind == "string":
        return isinstance(value, str)
    if kind == "bool":
        return isinstance(value, bool)
    if isinstance(value, bool):
        return False
    return isinstance(value, int) or (kind in ("int", "float") and isinstance(value, float))
