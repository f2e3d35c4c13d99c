"""An experiment's answer for a quantile: every variant against the control.

Upstream: the distribution of users' values by variant. Downstream: as of `analysis.py`, of which it
is the counterpart. Intervals for one look are by the quantiles' standard errors, for every look by
`quantiles.py`. There is no CUPED. Invariants: as there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from streamgauge.streams.experiments.analysis import Analysis, Lift, concluded, lift_of
from streamgauge.streams.experiments.effect import Comparison, Effect
from streamgauge.streams.experiments.plan import Plan
from streamgauge.streams.experiments.quantiles import Distribution, apart


def analyze_quantile(
    arms: Mapping[str, Distribution],
    share: float,
    plan: Plan,
    assigned: Mapping[str, int] | None = None,
) -> Analysis:
    """Every variant of `plan.weights` against the control, in the quantile of this share."""
    notes: list[str] = []
    control = arms.get(plan.control, Distribution.none())
    users = assigned or {name: arm.count for name, arm in arms.items()}
    lifts: dict[str, Lift] = {}
    for name in plan.weights:
        if name != plan.control:
            arm = arms.get(name, Distribution.none())
            lifts[name], said = _lift(name, control, arm, share, plan)
            notes += [f"{name}: {note}" for note in said]
    return concluded(plan, control.count, control.quantile(share), lifts, notes, users)


def _lift(
    name: str, control: Distribution, arm: Distribution, share: float, plan: Plan
) -> tuple[Lift, tuple[str, ...]]:
    comparison = _compared(control, arm, share, plan.alpha)
    lift = lift_of(name, comparison, arm.count, plan)
    if comparison.absolute is None:
        return lift, comparison.notes
    every_look = apart(control, arm, share, plan.alpha, plan.tuning_n)
    notes = comparison.notes
    if every_look.absolute is None:
        notes = (*notes, "too few users for an interval that holds at every look")
    return (
        replace(
            lift,
            ci_sequential=every_look.absolute,
            ci_relative_sequential=every_look.relative,
            p_sequential=every_look.p,
            p_sequential_adjusted=every_look.p,
        ),
        notes,
    )


def _compared(control: Distribution, arm: Distribution, share: float, alpha: float) -> Comparison:
    base, other = (each.quantile(share) for each in (control, arm))
    notes: list[str] = []
    if base is None or other is None:
        nobody = (("control", base), ("variant", other))
        notes += [f"the {who} has no users" for who, value in nobody if value is None]
        return Comparison(
            mean=other, control_mean=base, absolute=None, relative=None, notes=tuple(notes)
        )
    of_base, of_other = (each.error(share, alpha) for each in (control, arm))
    users = control.count + arm.count
    se = relative_se = None
    if of_base is None or of_other is None:
        notes.append("too few users for an interval of this quantile")
    else:
        se = math.hypot(of_base, of_other)
        if not se:
            notes.append("users around the quantile all have the same value: no fixed interval")
    df = float(max(users - 2, 1))
    relative = None
    if base == 0:
        notes.append("the control's quantile is 0: there is no relative lift")
    else:
        if of_base is not None and of_other is not None:
            relative_se = math.hypot(of_other / base, (of_base / base) * (other / base))
        relative = _effect(other / abs(base) - base / abs(base), relative_se, df, users)
    absolute = _effect(other - base, se, df, users)
    if absolute is None or (relative is None and base):
        notes.append("the quantiles are too far apart for double precision")
    return Comparison(
        mean=other,
        control_mean=base,
        absolute=absolute,
        relative=relative,
        notes=tuple(notes),
    )


def _effect(value: float, se: float | None, df: float, users: int) -> Effect | None:
    if not math.isfinite(value):
        return None
    return Effect(value=value, se=se if se and math.isfinite(se) else None, df=df, users=users)
