"""The records of experiments: who was exposed, what is between the stages, and the results.

`exposures` and `experiment-history` are written by `streams.experiments.exposures` and are its
changelogs; `experiment-partials` goes from there to `streams.experiments.results`, which writes
`experiment-results`. What is computed is said in `schemas/experiments.py`.

Invariants: values are absolute, so the last row of a key is the truth; sums are integers, real
values scaled as in metrics.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamgauge.schemas.records import Time


@dataclass(frozen=True, kw_only=True, slots=True)
class Exposure:
    """A user's first exposure to an experiment."""

    experiment: str
    user_id: str
    variant: str | None
    """Null for who was seen in several: excluded from the results."""
    exposed_at: Time
    variants: str
    """JSON {variant: time of the first exposure to it}."""
    sums: str
    """JSON {selection: [outcome, covariate]}, as of emitted_offset; written less often than they
    change, for the worker's own use."""
    emitted_offset: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ExperimentHistory:
    """What a user did in an hour, for covariates; without a user: the definitions in force."""

    user_id: str | None
    hour: int | None
    """Hours since the epoch."""
    sums: str
    """JSON {selection: [sum, offset since which it is collected]}; or the definitions."""
    emitted_offset: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ExperimentPartial:
    """What one source partition knows of a metric and variant; without them, of an experiment."""

    source_partition: int
    experiment: str
    variant: str | None
    metric: str | None
    users: int | None
    """In rows without metric: those seen in several variants."""
    sums: str | None
    """JSON: of outcome, denominator, covariate and its denominator, as far as there are."""
    products: str | None
    """JSON: of each pair of them, row by row."""
    definition: str | None
    """In rows without metric: definition and state of the experiment, JSON."""
    watermark: Time | None
    counts: str | None
    """JSON [[bucket, users], ...] of the outcome, for quantiles."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExperimentResult:
    """A metric of a variant, against the control."""

    experiment: str
    metric: str
    variant: str
    as_of: Time
    """Event time: the furthest watermark that the figures are of."""
    state: str
    role: str
    aggregate: str
    control: str
    is_control: bool
    users: int
    mean: float | None
    lift_absolute: float | None
    lift_relative: float | None
    ci_fixed_low: float | None
    ci_fixed_high: float | None
    ci_sequential_low: float | None
    ci_sequential_high: float | None
    ci_relative_sequential_low: float | None
    ci_relative_sequential_high: float | None
    p_fixed: float | None
    p_sequential: float | None
    p_adjusted: float | None
    """The sequential one, corrected over all variants and metrics of the role."""
    cuped_lift_absolute: float | None
    cuped_ci_fixed_low: float | None
    cuped_ci_fixed_high: float | None
    cuped_ci_sequential_low: float | None
    cuped_ci_sequential_high: float | None
    cuped_p_sequential: float | None
    srm_p: float | None
    users_excluded: int
    """Seen in several variants; of the experiment."""
    verdict: str | None
    """Of a guardrail: ok, breached or unclear."""
    power: float | None
    users_to_go: int | None
    days_to_go: int | None
    analysis: str
    """JSON: everything, notes among it."""
