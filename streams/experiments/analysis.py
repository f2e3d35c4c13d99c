"""An experiment's answer for one metric: every variant against the control.

Upstream: moments and users by variant. Downstream: `results.py`, `streamgauge experiments analyze`;
`quantile_analysis.py` answers for quantiles by the same parts.

Invariants: no figure is NaN or infinite; what cannot be told is None and `notes` say why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from streamgauge.streams.experiments import fixed, sequential
from streamgauge.streams.experiments.effect import Comparison, Effect, compare, ratio
from streamgauge.streams.experiments.moments import Moments
from streamgauge.streams.experiments.multiplicity import CORRECTIONS
from streamgauge.streams.experiments.plan import Plan
from streamgauge.streams.experiments.progress import ToGo, to_go
from streamgauge.streams.experiments.srm import ALARM, LEAST_USERS, srm_p

Interval = tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class Lift:
    """A variant's figures; intervals at 1 - alpha, `sequential` ones valid at every look."""

    users: int
    mean: float | None
    control_mean: float | None
    lift_absolute: float | None
    lift_relative: float | None
    ci_fixed: Interval
    ci_sequential: Interval
    ci_relative_fixed: Interval
    ci_relative_sequential: Interval
    p_fixed: float | None
    p_sequential: float | None
    p_fixed_adjusted: float | None
    p_sequential_adjusted: float | None
    to_go: ToGo | None


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """The answer; by variant, without the control."""

    control: str
    control_users: int
    control_mean: float | None
    lifts: Mapping[str, Lift]
    cuped: Mapping[str, Lift]
    srm_p: float | None
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As the command line prints it."""
        variants = {}
        for name, lift in self.lifts.items():
            adjusted = {"cuped": asdict(self.cuped[name])} if self.cuped else {}
            variants[name] = {**asdict(lift), **adjusted, "srm_p": self.srm_p}
        control = {"name": self.control, "users": self.control_users, "mean": self.control_mean}
        return {
            "control": control,
            "variants": variants,
            "srm_p": self.srm_p,
            "notes": list(self.notes),
        }


def analyze(
    arms: Mapping[str, Moments], plan: Plan, assigned: Mapping[str, int] | None = None
) -> Analysis:
    """Every variant of `plan.weights` against the control.

    `assigned`: users by variant as they were split, where some of them are not in `arms`.
    """
    notes: list[str] = []
    control = arms.get(plan.control, Moments.none())
    users = assigned or {name: arm.count for name, arm in arms.items()}
    lifts: dict[str, Lift] = {}
    adjusted: dict[str, Lift] = {}
    for name in plan.weights:
        if name == plan.control:
            continue
        arm = arms.get(name, Moments.none())
        comparison = compare(control, arm, of_sample=not plan.proportion)
        lifts[name] = lift_of(name, comparison, arm.count, plan)
        notes += [f"{name}: {note}" for note in comparison.notes]
        if plan.cuped:
            of_sample = not (plan.proportion and plan.covariate_proportion)
            comparison = compare(control, arm, cuped=True, of_sample=of_sample)
            adjusted[name] = lift_of(name, comparison, arm.count, plan)
            new = [f"{name}, with CUPED: {note}" for note in comparison.notes]
            notes += [note for note in new if note.replace(", with CUPED", "") not in notes]
    return concluded(plan, control.count, ratio(control), lifts, notes, users, adjusted)


def concluded(
    plan: Plan,
    control_users: int,
    control_mean: float | None,
    lifts: Mapping[str, Lift],
    notes: Sequence[str],
    users: Mapping[str, int],
    cuped: Mapping[str, Lift] | None = None,
) -> Analysis:
    """The answer, of lifts whose p values are yet to be corrected; `users` as they were split."""
    split = srm_p(users, plan.weights)
    nothing = () if lifts else ("there is nothing to compare: give a second variant",)
    return Analysis(
        control=plan.control,
        control_users=control_users,
        control_mean=control_mean,
        lifts=_corrected(lifts, plan.correction),
        cuped=_corrected(cuped or {}, plan.correction),
        srm_p=split,
        notes=(*notes, *nothing, *_about_split(split, users, plan.weights)),
    )


def lift_of(name: str, comparison: Comparison, users: int, plan: Plan) -> Lift:
    """A variant's figures; p values are yet to be corrected."""
    absolute, relative = comparison.absolute, comparison.relative
    fixed_p, sequential_p = _p_values(absolute, plan)
    return Lift(
        users=users,
        mean=comparison.mean,
        control_mean=comparison.control_mean,
        lift_absolute=absolute.value if absolute else None,
        lift_relative=relative.value if relative else None,
        ci_fixed=_fixed(absolute, plan),
        ci_sequential=_sequential(absolute, plan),
        ci_relative_fixed=_fixed(relative, plan),
        ci_relative_sequential=_sequential(relative, plan),
        p_fixed=fixed_p,
        p_sequential=sequential_p,
        p_fixed_adjusted=fixed_p,
        p_sequential_adjusted=sequential_p,
        to_go=to_go(name, comparison, plan),
    )


def _fixed(effect: Effect | None, plan: Plan) -> Interval:
    if effect is None or not effect.se:
        return None
    return _around(effect.value, fixed.half_width(effect.se, effect.df, plan.alpha))


def _sequential(effect: Effect | None, plan: Plan) -> Interval:
    if effect is None or not effect.se:
        return None
    rho = sequential.rho(plan.alpha, plan.tuning_n)
    return _around(
        effect.value, float(sequential.half_width(effect.se, effect.users, plan.alpha, rho))
    )


def _around(value: float, half: float) -> Interval:
    ends = (value - half, value + half)
    return ends if all(map(math.isfinite, ends)) else None


def _p_values(effect: Effect | None, plan: Plan) -> tuple[float | None, float | None]:
    if effect is None or not effect.se:
        return None, None
    rho = sequential.rho(plan.alpha, plan.tuning_n)
    return (
        fixed.p_value(effect.value, effect.se, effect.df),
        float(sequential.p_value(effect.value, effect.se, effect.users, rho)),
    )


def _corrected(lifts: Mapping[str, Lift], correction: str) -> dict[str, Lift]:
    """p values adjusted for the number of variants that have one."""
    known = {name: lift for name, lift in lifts.items() if lift.p_fixed is not None}
    correct = CORRECTIONS[correction]

    def adjust(p_values: Sequence[float | None]) -> dict[str, float]:
        given = [p for p in p_values if p is not None]
        return dict(zip(known, correct(given), strict=True))

    by_fixed = adjust([lift.p_fixed for lift in known.values()])
    by_sequential = adjust([lift.p_sequential for lift in known.values()])
    return {
        name: replace(
            lift,
            p_fixed_adjusted=by_fixed.get(name),
            p_sequential_adjusted=by_sequential.get(name),
        )
        for name, lift in lifts.items()
    }


def _about_split(
    split: float | None, users: Mapping[str, int], weights: Mapping[str, float]
) -> list[str]:
    """What is to be said of it."""
    notes = [
        f"{name} has weight 0 but {users[name]} users: it is not part of the SRM test"
        for name, weight in weights.items()
        if weight == 0 and users.get(name)
    ]
    counted = [name for name, weight in weights.items() if weight > 0]
    total = sum(users.get(name, 0) for name in counted)
    if split is None:
        why = "no users" if not total else "fewer than two variants of a weight above 0"
        return [*notes, f"no SRM test: {why}"]
    if total < LEAST_USERS * len(counted):
        notes.append(f"SRM: fewer than {LEAST_USERS} users a variant, so its p is rough")
    elif split < ALARM:
        notes.append(
            f"SRM: the split differs from the weights (p {split:.2g} < {ALARM}): find out why "
            "users went missing before believing any lift"
        )
    return notes
