"""What is decided about an experiment before its start.

Upstream: options or a definition. Downstream: `analysis.py`, `progress.py`. Invariant: a plan that
makes no sense cannot be made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from streamgauge.streams.experiments.errors import ExperimentError

MOST_VARIANTS = 50


@dataclass(frozen=True, kw_only=True)
class Goal:
    """The effect to be found: in units of the metric, or of the control's mean (`relative`)."""

    mde: float
    relative: bool
    power: float = 0.8
    users_per_day: float | None = None  # of all variants


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What was decided before the start."""

    control: str
    weights: Mapping[str, float]
    alpha: float = 0.05
    tuning_n: float = 5000
    correction: str = "holm"
    cuped: bool = False
    proportion: bool = False  # every outcome is 0 or 1
    covariate_proportion: bool = False
    goal: Goal | None = None

    def __post_init__(self) -> None:
        for name, weight in self.weights.items():
            if not (math.isfinite(weight) and weight >= 0):
                raise ExperimentError(f"the weight of {name} is {weight}: give 0 or more")
        total = sum(self.weights.values())
        if self.weights and not 0 < total < math.inf:
            raise ExperimentError(f"the weights add up to {total}: give the shares of the split")
        if len(self.weights) > MOST_VARIANTS:
            raise ExperimentError(
                f"{len(self.weights)} variants, more than {MOST_VARIANTS}: "
                "is it the column of variants?"
            )
        if self.weights and self.control not in self.weights:
            there = ", ".join(self.weights)
            raise ExperimentError(f"there is no variant {self.control}: there are {there}")
