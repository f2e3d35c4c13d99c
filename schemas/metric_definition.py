"""The entries of a definitions file as they are written, and faults in their shape.

Upstream: `metric_file.py`. Downstream: `metric_checks.py` and `metrics.py`, which says what the
keys mean.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from streamgauge.schemas.metric_file import Fault, Place, suggest

WindowSize = Literal["1m", "1h", "1d"]
Aggregate = Literal["count", "sum", "mean", "min", "max", "distinct_users", "ratio", "quantiles"]


class Part(BaseModel):
    """Which events a metric, or one part of a ratio, takes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    events: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    where: dict[str, Any] = {}
    field: str | None = None


class MetricDefinition(Part):
    """One entry of the file, as written."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=100)]
    description: str = ""
    aggregate: Aggregate
    numerator: Part | None = None
    denominator: Part | None = None
    quantiles: (
        Annotated[tuple[Annotated[float, Field(ge=0, le=1)], ...], Field(min_length=1)] | None
    ) = None
    dimensions: tuple[str, ...] | None = None
    by: Annotated[tuple[tuple[str, ...], ...], Field(min_length=1)] | None = None
    windows: Annotated[tuple[WindowSize, ...], Field(min_length=1)] = ("1m", "1h", "1d")
    unit: str | None = None
    anomalies: bool | Annotated[tuple[tuple[str, ...], ...], Field(min_length=1)] = False

    @property
    def watched(self) -> tuple[tuple[str, ...], ...]:
        """The breakdowns whose series are watched for anomalies."""
        if isinstance(self.anomalies, bool):
            return ((),) if self.anomalies else ()
        return tuple(dict.fromkeys(tuple(sorted(dims)) for dims in self.anomalies))

    @property
    def breakdowns(self) -> tuple[tuple[str, ...], ...]:
        """The sets of dimensions, each sorted."""
        given = self.by if self.by is not None else (self.dimensions or (),)
        return tuple(dict.fromkeys(tuple(sorted(dims)) for dims in given))

    @property
    def sizes(self) -> tuple[WindowSize, ...]:
        return tuple(size for size in get_args(WindowSize) if size in self.windows)


class MetricFile(BaseModel):
    """A whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    extends: Literal["builtin", "none"] = "builtin"
    metrics: tuple[MetricDefinition, ...] = ()


def explained(error: Any) -> Fault:
    """A pydantic error as a place and a sentence."""
    path: Place = tuple(error["loc"])
    place = str(path[-1]) if path else "the file"
    given = error["input"]
    match error["type"]:
        case "extra_forbidden":
            model: type[BaseModel] = MetricFile
            if len(path) > 2:
                model = Part if path[-2] in ("numerator", "denominator") else MetricDefinition
            return path, f"unknown key {place}: {suggest(place, model.model_fields)}"
        case "missing":
            return path, f"{place} is missing"
        case "literal_error":
            return path, f"{place} is {given!r}: allowed: {error['ctx']['expected']}"
        case _:
            return path, f"{place} is {given!r}: {error['msg'][0].lower()}{error['msg'][1:]}"
