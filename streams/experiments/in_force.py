"""Which experiments a source partition knows of, by the markers that have passed in it.

Upstream: controls of kind `experiment`. Downstream: `exposures.py`. It says since which offset an
experiment runs and a selection of events is collected, so that events before are left out however
often they are read.

Invariants: what cannot be used is a sentence, never an exception; a running experiment keeps its
meaning until it is stopped, and one that has been stopped never starts again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from streamgauge.schemas.experiments import (
    KIND,
    Experiment,
    of_body,
    selection_id,
    selections,
)
from streamgauge.schemas.metric_file import DefinitionError
from streamgauge.schemas.metrics import Selection
from streamgauge.schemas.records import Control


@dataclass(frozen=True, kw_only=True)
class InForce:
    """Of one partition."""

    experiments: Mapping[str, Experiment] = field(default_factory=dict)
    """By name; those that have been stopped among them."""
    running_since: Mapping[str, int] = field(default_factory=dict)
    """Offset of the marker that started each running one."""
    collected_since: Mapping[str, int] = field(default_factory=dict)
    """Offset of the marker that first asked for each selection, by its id."""
    offset: int = -1
    """Of the last marker."""

    @cached_property
    def active(self) -> tuple[Experiment, ...]:
        """Those whose events matter, sorted by name."""
        found = sorted(self.experiments.items())
        return tuple(experiment for _, experiment in found if experiment.state != "stopped")

    @cached_property
    def key(self) -> str:
        """Equal where the same experiments are in force."""
        return "".join(one.body() for one in self.active)

    @cached_property
    def lookback_hours(self) -> int:
        """The longest of all."""
        return 24 * max((one.definition.lookback_days for one in self.active), default=0)

    def with_control(self, control: Control, offset: int) -> tuple[InForce, str | None]:
        """After a marker, and why it was not taken if it was not."""
        if control.kind != KIND or offset <= self.offset:
            return self, None
        passed = replace(self, offset=offset)
        known = self.experiments.get(control.name)
        try:
            if control.body is not None:
                told = of_body(control.name, control.body)
            elif known is not None:
                told = replace(known, state="stopped")
            else:
                return passed, f"experiment {control.name} is not known: there is nothing to end"
        except DefinitionError as error:
            return passed, str(error)
        if known is not None and known.state == told.state == "stopped":
            return passed, None
        if known is not None and known.state == "stopped":
            return passed, f"experiment {control.name} has been stopped: give it another name"
        if known is not None and known.state == "running" and told.state != "stopped":
            if told.meaning != known.meaning:
                return passed, f"experiment {control.name} is running: stop it first"
        elif known is None and told.state == "stopped":
            return passed, f"experiment {control.name} is not known: there is nothing to stop"
        if told.state == "stopped" and known is not None:
            told = replace(told, definition=known.definition, started_at=known.started_at)
        return passed._with({**self.experiments, control.name: told}), None

    def _with(self, experiments: Mapping[str, Experiment]) -> InForce:
        running = {
            name: self.running_since.get(name, self.offset)
            for name, one in experiments.items()
            if one.state == "running"
        }
        asked = {
            selection_id(selection): self.collected_since.get(selection_id(selection), self.offset)
            for one in experiments.values()
            if one.state != "stopped"
            for selection in selections_of(one)
        }
        return replace(self, experiments=experiments, running_since=running, collected_since=asked)

    def to_json(self) -> str:
        """As the changelog keeps it."""
        told = {
            "experiments": {name: one.body() for name, one in self.experiments.items()},
            "running_since": self.running_since,
            "collected_since": self.collected_since,
            "offset": self.offset,
        }
        return json.dumps(told, ensure_ascii=False)

    @staticmethod
    def of_json(text: str) -> InForce:
        told = json.loads(text)
        experiments = {name: of_body(name, body) for name, body in told["experiments"].items()}
        return InForce(**told | {"experiments": experiments})


def selections_of(experiment: Experiment) -> tuple[Selection, ...]:
    """All that its metrics select, each once, in the order of the definition."""
    found = (selection for m in experiment.definition.metrics for selection in selections(m))
    return tuple(dict.fromkeys(found))
