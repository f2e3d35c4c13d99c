"""Experiments: their definitions from YAML or JSON, and what the worker is told of them.

Upstream: people's files. Downstream: the control topic (kind `experiment`); the worker
(`streams.experiments`), `verify`, the SDK and the CLI. A file reads

    name: feed-ranking               # as in experiment_exposure's experiment_id
    variants:
      - {name: control, weight: 0.5, config: {personal_connections: 0.6}}
      - {name: treatment, weight: 0.5, config: {personal_connections: 0.4}}
    allocation: 20%                  # of users; schedule: [{day: 1, allocation: 5%}, …], gates: …
    duration_days: 14
    segments: [power]                # only users in one of them
    metrics:
      - name: clicks_per_view
        role: primary                # primary, secondary or guardrail
        aggregate: ratio             # mean, proportion, ratio, quantile
        numerator: {events: [feed_click]}
        denominator: {events: [feed_view]}
        mde: 5%                      # the least effect worth finding
      - name: errors
        role: guardrail
        aggregate: mean
        events: [request]
        where: {status: {ge: 500}}
        worse: higher
        limit: 10%                   # of the control's mean
        stop_on_breach: true

The exact meaning, which `verify` shares. Of a user, a *sum* is over accepted events with consent:
the number of events that a selection takes, or with a field the sum of its observations, scaled
to an integer as metrics are (`metrics.py`).

- Exposed: the user's first experiment_exposure by event time that was accepted while the
  experiment was running (between the markers of start and stop in the partition) with a
  timestamp before the end, started_at + duration, and one of the experiment's variants. One seen
  in several variants is excluded, from the second variant on.
- Excluded by policy: an event that a policy leaves out is no outcome and no covariate. If there was
  one with exposed_at <= timestamp < end after the marker of the start, the user is excluded as if
  seen in one more variant, EXCLUDED, at the first of them. Exposures that are left out are such
  events, and exposures.
- Outcome: the sum over events with exposed_at <= timestamp < end, whatever the order of arrival.
- Covariate: the sum over the `lookback_days` * 24 whole hours (UTC) before the hour of exposed_at.
  Only events after the marker of the definition that first asked for the selection.
- mean: the outcome by user. proportion: 1 where the sum is not 0. ratio: the outcomes of numerator
  and denominator; the covariate is one as well.
- quantile: the outcome by user, of which the least is taken that at least the share `quantile` of
  the users do not exceed; who did nothing has 0. Outcomes are counted in buckets: |v| below 2^9 in
  its own, from there on by its first 9 binary digits (0.4 % wide at most). With k further digits
  the bucket is k * 2^8 + those 9 as a number, negative for negative v. No covariate.

Invariants: a definition is complete and correct once loaded, or loading fails with line and what
is allowed; what is not correct in a control is refused as a value, never an exception downstream.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from streamgauge.schemas.experiment_checks import faults_of
from streamgauge.schemas.experiment_definition import (
    ExperimentDefinition,
    ExperimentMetric,
    explained,
)
from streamgauge.schemas.metric_file import DefinitionError, Lines, load, validated
from streamgauge.schemas.metrics import Selection, selection_of
from streamgauge.schemas.records import Control

KIND = "experiment"
State = Literal["created", "running", "stopped"]
STATES: tuple[State, ...] = ("created", "running", "stopped")
DAY_MS, HOUR_MS = 86_400_000, 3_600_000
EXCLUDED = "(excluded)"
"""In place of a variant: no name of one can be this."""
BUCKET_BITS = 9
"""Digits of an outcome that its bucket tells, for quantiles."""


def selections(metric: ExperimentMetric) -> tuple[Selection, ...]:
    """One, or numerator and denominator."""
    if metric.numerator is not None and metric.denominator is not None:
        return selection_of(metric.numerator), selection_of(metric.denominator)
    return (selection_of(metric),)


def selection_id(selection: Selection) -> str:
    """16 hex digits that mean the same selection in every process."""
    where = [[c.field, c.operator, c.value] for c in selection.where]
    canonical = [selection.events, where, selection.field, selection.kinds]
    return hashlib.sha256(json.dumps(canonical).encode()).hexdigest()[:16]


def load_experiment(source: Path | str, name: str = "<text>") -> ExperimentDefinition:
    """A definition from a file (a Path) or from YAML or JSON text (a str).

    Raises DefinitionError with every problem found, each with file and line.
    """
    definition, _ = load(source, name, ExperimentDefinition, explained, faults_of)
    return definition


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """An experiment as the control topic tells of it."""

    definition: ExperimentDefinition
    state: State = "created"
    started_at: int | None = None
    stopped_at: int | None = None
    reason: str | None = None
    """Why it was stopped."""
    version: int = 0
    """Counted up with each control."""
    opened: int = 1
    """Steps of the schedule that the gates have let through."""
    opened_at: int | None = None
    """Event time at which the last of them was."""

    @property
    def name(self) -> str:
        return self.definition.name

    @property
    def end(self) -> int | None:
        """Event time from which nothing counts any more."""
        if self.started_at is None:
            return None
        return self.started_at + int(self.definition.duration_days * DAY_MS)

    @property
    def meaning(self) -> str:
        """What must not change while it runs: all but allocation, schedule, gates and words."""
        words = {"description", "allocation", "schedule", "gates"}
        said = self.definition.model_dump(mode="json", exclude=words)
        for each in said["variants"]:
            del each["config"]
        return json.dumps([said, self.started_at], sort_keys=True)

    def control(self) -> Control:
        """To be published."""
        return Control(kind=KIND, name=self.name, version=self.version, body=self.body())

    def is_over(self, watermark: int, lateness_ms: int) -> bool:
        """Whether its days are, and no event that counts can come any more."""
        end = self.end if self.state == "running" else None
        return end is not None and watermark >= end + lateness_ms

    def stopped(self, at: int, reason: str) -> Experiment:
        """The same at its end."""
        return replace(
            self, state="stopped", stopped_at=at, reason=reason, version=self.version + 1
        )

    def allocation_at(self, now: int) -> float:
        """The share of users who take part once it runs."""
        started = now if self.started_at is None else self.started_at
        return self.definition.allocation_at(started, now, self.opened)

    def body(self) -> str:
        """As a control carries it."""
        told = {
            "definition": self.definition.model_dump(mode="json", exclude_defaults=True),
            "state": self.state,
            "started_at": self.started_at,
            "stopped_at": self.stopped_at,
            "reason": self.reason,
            "version": self.version,
        }
        if self.definition.gates is not None:
            told |= {"opened": self.opened, "opened_at": self.opened_at}
        return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


def of_body(name: str, body: str) -> Experiment:
    """What `body` gave; raises DefinitionError for anything else."""
    try:
        told = json.loads(body)
        state, started = told["state"], told.get("started_at")
        well = isinstance(told, Mapping) and state in STATES
        times = (
            started,
            *(told.get(it) for it in ("stopped_at", "version", "opened", "opened_at")),
        )
        well = well and all(t is None or isinstance(t, int) for t in times)
    except (ValueError, KeyError, TypeError, AttributeError):
        well = False
    if not well or (state == "running" and started is None):
        raise DefinitionError([f"experiment {name}: not what the CLI writes"])
    try:
        given, place = told.get("definition"), f"experiment {name}"
        definition = validated(given, Lines(), place, ExperimentDefinition, explained, faults_of)
    except (DefinitionError, TypeError) as error:
        raise DefinitionError([str(error)]) from None
    if definition.name != name:
        raise DefinitionError([f"experiment {name} is defined as {definition.name}"])
    return Experiment(
        definition=definition,
        state=state,
        started_at=started,
        stopped_at=told.get("stopped_at"),
        reason=None if told.get("reason") is None else str(told["reason"]),
        version=int(told.get("version") or 0),
        opened=max(int(told.get("opened") or 1), 1),
        opened_at=told.get("opened_at"),
    )
