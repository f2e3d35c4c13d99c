"""What can be wrong with an experiment's definition, beyond its shape: one fault a sentence.

Upstream: definitions as `experiments.py` read them. Every fault says where it is and what is
allowed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from streamgauge.schemas.experiment_definition import (
    ExperimentDefinition,
    ExperimentMetric,
    Gates,
)
from streamgauge.schemas.metric_checks import part_faults
from streamgauge.schemas.metric_definition import Part
from streamgauge.schemas.metric_file import Fault, Place, suggest

UNREAD = frozenset(
    {"event_id", "user_id", "anonymous_id", "session_id", "referrer", "received_at"}
    | {"title", "query"}
)
"""Fields that no worker reads for experiments: each would cost every event."""


def faults_of(definition: ExperimentDefinition) -> Iterator[Fault]:
    """Everything wrong with it."""
    names = [variant.name for variant in definition.variants]
    yield from _twice("variants", names, "variant")
    yield from _twice("metrics", [metric.name for metric in definition.metrics], "metric")
    if definition.control is not None and definition.control not in names:
        yield (
            ("control",),
            f"there is no variant {definition.control}: {suggest(definition.control, names)}",
        )
    if sum(variant.weight > 0 for variant in definition.variants) < 2:
        yield ("variants",), "at least two variants need a weight above 0"
    days = [step.day for step in definition.schedule]
    for index, step in enumerate(definition.schedule[1:], 1):
        before = definition.schedule[index - 1]
        if step.day <= before.day:
            yield ("schedule", index, "day"), f"day {step.day:g} is not after {before.day:g}"
        if step.allocation < before.allocation:
            yield (
                ("schedule", index, "allocation"),
                f"allocation {step.allocation:g} is below {before.allocation:g}: users who are in "
                "would be thrown out",
            )
    if days and days[-1] > definition.duration_days:
        yield ("schedule",), f"day {days[-1]:g} is after the {definition.duration_days:g} days"
    if (
        definition.schedule
        and definition.schedule[0].allocation < definition.allocation
        and (definition.schedule[0].day > 1 and "allocation" in definition.model_fields_set)
    ):
        yield (
            ("schedule", 0, "allocation"),
            f"allocation {definition.schedule[0].allocation:g} is below the "
            f"{definition.allocation:g} before it: users who are in would be thrown out",
        )
    if definition.gates is not None:
        yield from _gate_faults(definition, definition.gates)
    roles = [metric.role for metric in definition.metrics]
    if "primary" not in roles:
        yield ("metrics",), "one metric needs role: primary"
    for index, metric in enumerate(definition.metrics):
        yield from _metric_faults(metric, ("metrics", index))


def _gate_faults(definition: ExperimentDefinition, gates: Gates) -> Iterator[Fault]:
    if not definition.schedule:
        yield ("gates",), "gates hold back the steps of a schedule, and there is none"
    names = [metric.name for metric in definition.metrics]
    for index, gate in enumerate(gates.metrics):
        path: Place = ("gates", "metrics", index)
        if gate.metric not in names:
            fault = f"there is no metric {gate.metric}: {suggest(gate.metric, names)}"
            yield (*path, "metric"), fault
        if (gate.within is None) == (gate.at_least is None):
            yield path, "a gate needs within or at_least, and takes one of them"


def _twice(place: str, names: Sequence[str], what: str) -> Iterator[Fault]:
    for index, name in enumerate(names):
        if name in names[:index]:
            number = names.index(name) + 1
            yield (place, index, "name"), f"there is already a {what} {name} (number {number})"


def _metric_faults(metric: ExperimentMetric, path: Place) -> Iterator[Fault]:
    if metric.aggregate == "ratio":
        for key in ("numerator", "denominator"):
            part = getattr(metric, key)
            if part is None:
                yield path, f"aggregate ratio needs {key}"
            else:
                yield from _selection_faults(part, (*path, key))
        for key in ("events", "where", "field"):
            if getattr(metric, key):
                yield (*path, key), f"{key} of a ratio stands in its two parts"
    else:
        for key in ("numerator", "denominator"):
            if getattr(metric, key) is not None:
                yield (*path, key), f"aggregate {metric.aggregate} takes no {key}"
        if metric.aggregate == "quantile" and metric.quantile is None:
            yield path, "aggregate quantile needs quantile: 0.9, or another share of the users"
        if metric.aggregate == "proportion" and metric.field is not None:
            yield (
                (*path, "field"),
                "aggregate proportion takes no field: was there an event, or not",
            )
        if metric.events is None:
            yield path, f"aggregate {metric.aggregate} needs events"
        yield from _selection_faults(metric, path)
    if metric.aggregate != "quantile" and metric.quantile is not None:
        yield (*path, "quantile"), f"aggregate {metric.aggregate} takes no quantile"
    if metric.role == "guardrail":
        for key in ("worse", "limit"):
            if getattr(metric, key) is None:
                yield path, f"a guardrail needs {key}"
    else:
        for key in ("worse", "limit", "stop_on_breach"):
            if getattr(metric, key):
                yield (*path, key), f"only a guardrail takes {key}, and this one is {metric.role}"


def _selection_faults(part: Part, path: Place) -> Iterator[Fault]:
    yield from part_faults(part, path)
    for field in UNREAD & {*part.where, part.field}:
        yield (*path, "where", field), f"{field} is not read for experiments"
