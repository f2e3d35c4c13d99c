"""The definition of an experiment as it is written, and faults in its shape.

Upstream: `metric_file.py` reads the YAML. Downstream: `experiment_checks.py`, and
`experiments.py`, which says what the keys mean.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from streamgauge.schemas.metric_definition import Part
from streamgauge.schemas.metric_file import Fault, Place, suggest

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"
Role = Literal["primary", "secondary", "guardrail"]
Aggregate = Literal["mean", "proportion", "ratio", "quantile"]
Side = Literal["lower", "higher"]

AMOUNTS = ("mde", "limit", "within", "at_least")
MOST_VARIANTS = 50
LONGEST_LOOKBACK = 28
"""Days."""


def _share(value: Any) -> Any:
    """20% is 0.2."""
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            return float(value.strip()[:-1]) / 100
        except ValueError:
            return value
    return value


class Amount(BaseModel):
    """0.5, or 5% of the control's mean."""

    model_config = ConfigDict(frozen=True)

    value: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    relative: bool


def _amount(given: Any) -> Any:
    if isinstance(given, str) and given.strip().endswith("%"):
        return {"value": _share(given), "relative": True}
    if isinstance(given, int | float) and not isinstance(given, bool):
        return {"value": given, "relative": False}
    return given


AnAmount = Annotated[Amount, BeforeValidator(_amount)]
AShare = Annotated[
    float, BeforeValidator(_share), Field(ge=0, le=1, allow_inf_nan=False, strict=True)
]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Variant(_Entry):
    """One arm."""

    name: Annotated[str, Field(pattern=NAME, max_length=100)]
    weight: Annotated[float, BeforeValidator(_share), Field(ge=0, le=1e9, allow_inf_nan=False)] = 1
    config: dict[str, Any] = {}
    """What the SDK hands out with the assignment."""


class Step(_Entry):
    """From this day on (1 is the first) so many take part."""

    day: Annotated[float, Field(ge=1, allow_inf_nan=False)]
    allocation: AShare


class ExperimentMetric(Part):
    """One question to the experiment."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=100)]
    description: str = ""
    role: Role = "secondary"
    aggregate: Aggregate
    quantile: Annotated[float, BeforeValidator(_share), Field(gt=0, lt=1)] | None = None
    """Of the users' values: 0.9, or 90%."""
    numerator: Part | None = None
    denominator: Part | None = None
    mde: AnAmount | None = None
    """The least effect worth finding."""
    worse: Side | None = None
    """Of a guardrail."""
    limit: AnAmount | None = None
    """How much worse is a breach."""
    stop_on_breach: bool = False


class Gate(_Entry):
    """What a metric of every variant must show before the allocation rises further."""

    metric: str
    within: AnAmount | None = None
    """The lift is at most so much, up or down."""
    at_least: AnAmount | None = None
    """The lift is at least so much."""
    sure: bool = False
    """The whole confidence sequence shows it, not only the estimate."""


class Gates(_Entry):
    """What must hold for each further step of the schedule; without, days alone decide."""

    metrics: tuple[Gate, ...] = ()
    guardrails: Literal["not_breached", "ok"] = "not_breached"
    srm: Annotated[float, Field(ge=0, lt=1)] = 0.001
    """The least p of the split being as planned."""
    users: Annotated[int, Field(ge=0)] = 100
    """Of every variant of a weight above 0."""


class ExperimentDefinition(_Entry):
    """A whole file."""

    name: Annotated[str, Field(pattern=NAME, max_length=100)]
    description: str = ""
    variants: Annotated[tuple[Variant, ...], Field(min_length=2, max_length=MOST_VARIANTS)]
    control: str | None = None
    allocation: AShare = 0.2
    schedule: tuple[Step, ...] = ()
    gates: Gates | None = None
    duration_days: Annotated[float, Field(gt=0, le=3650)] = 14
    segments: tuple[str, ...] = ()
    """Only users in one of them; none: everybody."""
    metrics: Annotated[tuple[ExperimentMetric, ...], Field(min_length=1, max_length=50)]
    lookback_days: Annotated[int, Field(ge=0, le=LONGEST_LOOKBACK)] = 14
    """Of CUPED's covariates; 0: no CUPED."""
    alpha: Annotated[float, Field(gt=0, lt=1)] = 0.05
    power: Annotated[float, Field(gt=0, lt=1)] = 0.8
    tuning_n: Annotated[float, Field(gt=0, le=1e12)] = 5000
    correction: Literal["holm", "bh", "none"] = "holm"

    @property
    def control_name(self) -> str:
        """Named, or the variant `control`, or else the first one."""
        names = [variant.name for variant in self.variants]
        if self.control is not None:
            return self.control
        return "control" if "control" in names else names[0]

    @property
    def weights(self) -> dict[str, float]:
        return {variant.name: variant.weight for variant in self.variants}

    def allocation_at(self, started_at: int, now: int, opened: int = 1) -> float:
        """The share of users who take part, `now` ms since the epoch, by the schedule.

        `opened`: how many of its steps the gates have let through, if there are gates.
        """
        day = 1 + (now - started_at) / 86_400_000
        steps = self.schedule if self.gates is None else self.schedule[:opened]
        reached = [step.allocation for step in steps if step.day <= day]
        return reached[-1] if reached else self.allocation


def explained(error: Any) -> Fault:
    """A pydantic error as a place and a sentence."""
    path: Place = tuple(part for part in error["loc"] if part not in ("value", "relative"))
    place = str(path[-1]) if path else "the file"
    given = error["input"]
    match error["type"]:
        case "extra_forbidden":
            return path, f"unknown key {place}: {suggest(place, _model_at(path).model_fields)}"
        case "missing":
            return path, f"{place} is missing"
        case "literal_error":
            return path, f"{place} is {given!r}: allowed: {error['ctx']['expected']}"
        case "model_type" | "model_attributes_type" if place in AMOUNTS:
            return path, f"{place} is {given!r}: allowed: an amount as 0.5, or 5%"
        case "too_short":
            return path, f"{place}: at least {error['ctx']['min_length']} needed"
        case _:
            return path, f"{place} is {given!r}: {error['msg'][0].lower()}{error['msg'][1:]}"


def _model_at(path: Place) -> type[BaseModel]:
    """Whose key the last of the path is not."""
    if len(path) > 2 and path[-2] in ("numerator", "denominator"):
        return Part
    if path[0] == "gates" and len(path) > 1:
        return Gate if len(path) > 3 else Gates
    models: dict[Any, type[BaseModel]] = {
        "variants": Variant,
        "schedule": Step,
        "metrics": ExperimentMetric,
    }
    return models.get(path[0], ExperimentDefinition) if len(path) > 2 else ExperimentDefinition
