"""Alert levels: what a signal must not be beyond, and for how long, as data from YAML.

Upstream: `catalogue/alerts.yaml`, and files of users. Downstream: the worker, which holds the
minutes of metrics to them, and the CLI. A file reads

    extends: default          # a preset of the catalogue (default, feed, shop), or: none
    alerts:
      - name: error_rate      # replaces the preset's alert of this name
        metric: error_rate    # a series of the metrics, its total; without: measured elsewhere
        scale: 100            # the series' values times this are what is compared
        unit: "%"
        side: above           # or: below
        yellow: {value: 1, minutes: 5}
        red: {value: 5, minutes: 2}
    policies:                 # what is done about flags of users, beside telling; default: nothing
      - {detector: bot, severity: red, throttle: 10}    # events a minute that are let in
      - {detector: impossible, exclude: true}           # from metrics and experiments
      - {detector: bot, webhook: ops}                   # also of series: spike, threshold:NAME
    except_users: [monitor-1]
    webhooks: [{name: ops, url: "https://…"}]           # see webhooks.py

Invariant: levels are complete and correct once loaded, or loading fails with every problem, its
line and what is allowed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from streamgauge.schemas.metric_file import (
    Fault,
    Place,
    load,
    parse,
    suggest,
)
from streamgauge.schemas.metrics import Definitions
from streamgauge.schemas.webhooks import USER_DETECTORS, Webhook, detectors, faults_of

CATALOGUE = Path(__file__).parent / "catalogue" / "alerts.yaml"


class Limit(BaseModel):
    """Beyond `value` for `minutes`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: float = Field(allow_inf_nan=False)
    minutes: float = Field(0.0, ge=0, le=1440)


class Alert(BaseModel):
    """One level."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$", max_length=100)]
    metric: str | None = None
    scale: float = Field(1.0, gt=0, allow_inf_nan=False)
    unit: str = ""
    side: Literal["above", "below"] = "above"
    yellow: Limit | None = None
    red: Limit | None = None


Severity = Literal["yellow", "red"]


class Policy(BaseModel):
    """What is done about a flag of a user while it lasts, or who is told of any flag."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    detector: str
    severity: Severity = "yellow"
    """From this one on."""
    throttle: Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)] | None = None
    """Events a minute that the collector lets in; 0: none."""
    exclude: bool = False
    """Their events count in no metric and no experiment."""
    webhook: str | None = None
    """The name of the one that is told; of series too."""


class Policies(BaseModel):
    """All of them."""

    model_config = ConfigDict(frozen=True)

    policies: tuple[Policy, ...] = ()
    except_users: frozenset[str] = frozenset()
    webhooks: tuple[Webhook, ...] = ()

    def throttle(self, user: str, detector: str, severity: str) -> float | None:
        """The strictest rate for a flag; None to let it be."""
        if user in self.except_users:
            return None
        rates = (
            policy.throttle
            for policy in self.policies
            if policy.detector == detector and (policy.severity == "yellow" or severity == "red")
        )
        return min((rate for rate in rates if rate is not None), default=None)

    def excludes(self, user: str, detector: str, severity: str) -> bool:
        """Whether a flag leaves the user out of metrics and experiments."""
        return user not in self.except_users and any(
            policy.detector == detector and (policy.severity == "yellow" or severity == "red")
            for policy in self.policies
            if policy.exclude
        )

    def exclusions(self) -> list[Any]:
        """All that `excludes` depends on, as JSON; empty where nobody is left out."""
        found = [[policy.detector, policy.severity] for policy in self.policies if policy.exclude]
        return [*sorted(found), sorted(self.except_users)] if found else []


class AlertFile(BaseModel):
    """A whole file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    extends: str = "default"
    alerts: tuple[Alert, ...] = ()
    policies: tuple[Policy, ...] = ()
    except_users: frozenset[str] = frozenset()
    webhooks: tuple[Webhook, ...] = ()


@cache
def presets() -> Mapping[str, tuple[Alert, ...]]:
    """The catalogue's."""
    content, _ = parse(CATALOGUE.read_text(encoding="utf-8"), str(CATALOGUE))
    return {
        name: tuple(map(Alert.model_validate, alerts))
        for name, alerts in content["presets"].items()
    }


def load_alerts(
    source: Path | str, definitions: Definitions, name: str = "<text>"
) -> tuple[Alert, ...]:
    """Alerts from a file (a Path) or from YAML text (a str), for these metrics."""
    file, _ = load(source, name, AlertFile, _explained, lambda file: _faults(file, definitions))
    named = {alert.name: alert for alert in presets().get(file.extends, ())}
    named |= {alert.name: alert for alert in file.alerts}
    return tuple(named.values())


def load_policies(source: Path | str | None, definitions: Definitions) -> Policies:
    """What a file does about users; nothing without one."""
    if source is None:
        return Policies()
    file, _ = load(source, "<text>", AlertFile, _explained, lambda file: _faults(file, definitions))
    return Policies(policies=file.policies, except_users=file.except_users, webhooks=file.webhooks)


def chosen(source: Path | None, definitions: Definitions) -> tuple[Alert, ...]:
    """Those of a file, or the default preset, that are of metrics."""
    given = load_alerts(source, definitions) if source else presets()["default"]
    return fitting(given, definitions)


def fitting(alerts: Iterable[Alert], definitions: Definitions) -> tuple[Alert, ...]:
    """Those whose metric is defined: a preset may name some that these definitions lack."""
    known = _totals(definitions)
    return tuple(alert for alert in alerts if alert.metric in known)


def _totals(definitions: Definitions) -> set[str]:
    return {
        one.name for one in definitions.series() if () in one.dimensions and "1m" in one.windows
    }


def _faults(file: AlertFile, definitions: Definitions) -> Iterator[Fault]:
    allowed = (*presets(), "none")
    if file.extends not in allowed:
        yield ("extends",), f"unknown preset {file.extends}: {suggest(file.extends, allowed)}"
    seen: set[str] = set()
    totals = _totals(definitions)
    for index, alert in enumerate(file.alerts):
        path: Place = ("alerts", index)
        if alert.name in seen:
            yield (*path, "name"), "there is already an alert of this name"
        seen.add(alert.name)
        if alert.metric is not None and alert.metric not in totals:
            fault = f"no series {alert.metric} with a total by the minute"
            yield (*path, "metric"), f"{fault}: {suggest(alert.metric, totals)}"
        if alert.yellow is None and alert.red is None:
            yield path, "give yellow, red or both"
        elif alert.yellow and alert.red:
            further = alert.red.value - alert.yellow.value
            if (further if alert.side == "above" else -further) < 0:
                yield (*path, "red"), f"red must not be nearer than yellow ({alert.yellow.value:g})"
    yield from _policy_faults(file)
    yield from faults_of(file.webhooks, file.policies)


def _policy_faults(file: AlertFile) -> Iterator[Fault]:
    levels = {alert.name for alert in (*presets().get(file.extends, ()), *file.alerts)}
    for index, policy in enumerate(file.policies):
        path: Place = ("policies", index)
        known = detectors(levels)
        if policy.detector not in known:
            fault = f"unknown detector {policy.detector}"
            yield (*path, "detector"), f"{fault}: {suggest(policy.detector, known)}"
        if policy.throttle is None and policy.webhook is None and not policy.exclude:
            yield path, "say what is done: throttle, exclude or webhook"
        if policy.detector in USER_DETECTORS:
            continue
        allowed = suggest(policy.detector, USER_DETECTORS)
        if policy.throttle is not None:
            yield (*path, "throttle"), f"only users can be throttled: {allowed}"
        if policy.exclude:
            yield (*path, "exclude"), f"only users can be excluded: {allowed}"


def _explained(error: Any) -> Fault:
    path: Place = tuple(error["loc"])
    place = str(path[-1]) if path else "the file"
    match error["type"]:
        case "extra_forbidden":
            entries: dict[Any, type[BaseModel]] = {"policies": Policy, "webhooks": Webhook}
            models: dict[int, type[BaseModel]] = {1: AlertFile, 3: entries.get(path[0], Alert)}
            inside = models.get(len(path), Limit)
            return path, f"unknown key {place}: {suggest(place, inside.model_fields)}"
        case "missing":
            return path, f"{place} is missing"
        case "literal_error":
            return path, f"{place} is {error['input']!r}: allowed: {error['ctx']['expected']}"
        case _:
            told = error["msg"].removeprefix("Value error, ")
            told = told[0].lower() + told[1:]
            return path, f"{place} is {error['input']!r}: {told}"
