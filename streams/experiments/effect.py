"""The lift of one variant over the control, absolute and relative, and its standard error.

Upstream: `moments.py`. Downstream: `fixed.py` and `sequential.py` make intervals of it.

Every metric is a ratio of means R = M/D (D is 1 without a denominator), adjusted by a covariate
that is one as well (CUPED): A = R - θ·X, θ = cov(R, X)/var(X) over both variants together. To
first order each is linear in the means, so its variance is gradient · covariance · gradient / n:
the delta method. Invariants: without a denominator and a covariate this is Welch's comparison of
means; θ depends on the two variants at hand alone; nothing returned is NaN or infinite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from streamgauge.streams.experiments.moments import (
    COVARIATE,
    COVARIATE_DENOMINATOR,
    DENOMINATOR,
    OUTCOME,
    VARIABLES,
    Array,
    Moments,
)

# A variance below this share of what it was computed from is rounding, not variance.
ROUNDING = 1e-13
# Below this many standard errors from 0, dividing by the control's mean is not to be trusted.
CLEARLY_NOT_ZERO = 3.0


@dataclass(frozen=True, kw_only=True)
class Effect:
    """An estimate; `se` is None where it cannot be told."""

    value: float
    se: float | None
    df: float  # of Welch's t
    users: int  # of both variants


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A variant against the control; `notes` say why something is None."""

    mean: float | None
    control_mean: float | None
    absolute: Effect | None
    relative: Effect | None
    notes: tuple[str, ...]


def ratio(moments: Moments) -> float | None:
    """The variant's mean, or its ratio of means; None without users or where it is not finite."""
    value = _ratio(moments, OUTCOME, DENOMINATOR) if moments.count else math.nan
    return value if math.isfinite(value) else None


def compare(
    control: Moments, treatment: Moments, *, cuped: bool = False, of_sample: bool = True
) -> Comparison:
    """The lift of `treatment` over `control`.

    `of_sample`: variances are divided by n - 1; for proportions by n, which is p(1 - p).
    """
    with np.errstate(all="ignore"):
        return _compare(control, treatment, cuped, of_sample)


def _compare(control: Moments, treatment: Moments, cuped: bool, of_sample: bool) -> Comparison:
    notes: list[str] = []
    plain = [ratio(arm) for arm in (control, treatment)]
    base, other = plain
    if base is None or other is None:
        for arm, name in ((control, "control"), (treatment, "variant")):
            if ratio(arm) is None:
                notes.append(_why_no_mean(arm, name))
        return Comparison(
            mean=other, control_mean=base, absolute=None, relative=None, notes=tuple(notes)
        )

    theta, *taken = _adjustment(control, treatment) if cuped else (0.0, 0.0, 0.0)
    if cuped and not theta:
        notes.append("the covariate explains nothing (no variance, or none in common)")
    base_adjusted, other_adjusted = base - taken[0], other - taken[1]
    lift = other_adjusted - base_adjusted

    def error(arm: Moments, outcome: float, covariate: float) -> float:
        """The variance of outcome·R - covariate·θ·X in a variant."""
        return _variance(arm, outcome, covariate * theta, of_sample)

    users = control.count + treatment.count
    variances = (error(control, 1, 1), error(treatment, 1, 1))
    df = _welch(variances, (control.count, treatment.count))
    problem = _why_no_error((control, treatment), sum(variances))
    if problem:
        notes.append(problem)
    elif not all(variances):
        notes.append("one of the two has no variance: only the other's is in the intervals")
    absolute = relative = None
    if math.isfinite(lift):
        se = None if problem else math.sqrt(sum(variances))
        absolute = Effect(value=lift, se=se, df=df, users=users)
    else:
        notes.append("the means are too far apart for double precision")
    if base == 0:
        notes.append("the control's mean is 0: there is no relative lift")
    elif absolute:
        # lift/|base| by R and X of either variant. By the control's R it is other/base² as without
        # a covariate: the adjustment is 0 in expectation (as in GrowthBook's gbstats).
        scale = 1 / abs(base)
        variance = error(treatment, scale, scale) + error(control, scale * (other / base), scale)
        known = not problem and math.isfinite(variance)
        if math.isfinite(lift * scale):
            se = math.sqrt(variance) if known else None
            relative = Effect(value=lift * scale, se=se, df=df, users=users)
        if not relative or not (known or problem):
            notes.append("the control's mean is too close to 0 for a relative lift")
        elif known and abs(base) < CLEARLY_NOT_ZERO * math.sqrt(error(control, 1, 0)):
            notes.append("the control's mean is close to 0: the relative intervals are unreliable")
    return Comparison(
        mean=other_adjusted,
        control_mean=base_adjusted,
        absolute=absolute,
        relative=relative,
        notes=tuple(notes),
    )


def _adjustment(control: Moments, treatment: Moments) -> tuple[float, float, float]:
    """θ, and what the covariate takes off the control's and the treatment's mean."""
    pooled = control + treatment
    theta = _theta(pooled)
    middle = _ratio(pooled, COVARIATE, COVARIATE_DENOMINATOR)
    of_control, of_treatment = (
        theta * (_ratio(arm, COVARIATE, COVARIATE_DENOMINATOR) - middle)
        for arm in (control, treatment)
    )
    finite = math.isfinite(of_control) and math.isfinite(of_treatment)
    return (theta, of_control, of_treatment) if finite else (0.0, 0.0, 0.0)


def _ratio(moments: Moments, numerator: int, denominator: int) -> float:
    below = float(moments.mean[denominator])
    return float(moments.mean[numerator]) / below if below else math.nan


def _gradient(moments: Moments, numerator: int, denominator: int) -> Array:
    """Of a ratio of means, by the means."""
    gradient = np.zeros(VARIABLES)
    below = moments.mean[denominator]
    gradient[numerator] = 1 / below
    gradient[denominator] = -moments.mean[numerator] / below**2
    return gradient


def _theta(pooled: Moments) -> float:
    outcome = _gradient(pooled, OUTCOME, DENOMINATOR)
    covariate = _gradient(pooled, COVARIATE, COVARIATE_DENOMINATOR)
    among = float(covariate @ pooled.comoment @ covariate)
    theta = float(outcome @ pooled.comoment @ covariate) / among if among > 0 else 0.0
    return theta if math.isfinite(theta) else 0.0


def _variance(arm: Moments, outcome: float, covariate: float, of_sample: bool) -> float:
    """Of outcome·R - covariate·X, as estimated from one variant; NaN below two users."""
    if arm.count < 2:
        return math.nan
    gradient = outcome * _gradient(arm, OUTCOME, DENOMINATOR)
    if covariate:
        gradient -= covariate * _gradient(arm, COVARIATE, COVARIATE_DENOMINATOR)
    terms = np.outer(gradient, gradient) * arm.covariance(of_sample=of_sample)
    variance = float(terms.sum())
    if variance <= ROUNDING * float(np.abs(terms).sum()):
        return 0.0
    return variance / arm.count


def _welch(variances: tuple[float, float], counts: tuple[int, int]) -> float:
    """Welch-Satterthwaite's degrees of freedom; shares, so that tiny variances do not vanish."""
    total = sum(variances)
    if not 0 < total < math.inf:
        return 0.0  # and no error to use it with
    shares = (variance / total for variance in variances)
    return 1 / sum(share**2 / (n - 1) for share, n in zip(shares, counts, strict=True))


def _why_no_mean(arm: Moments, name: str) -> str:
    if not arm.count:
        return f"the {name} has no users"
    if arm.mean[DENOMINATOR] == 0:
        return f"the {name}'s denominator adds up to 0"
    return f"the {name}'s values are too large to add up in double precision"


def _why_no_error(arms: tuple[Moments, Moments], variance: float) -> str | None:
    if min(arm.count for arm in arms) < 2:
        return "intervals need at least two users in either variant"
    if not math.isfinite(variance):
        return "the values are too large for a variance in double precision"
    return None if variance > 0 else "neither has any variance: there is no interval and no p"
