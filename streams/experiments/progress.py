"""How far a running experiment is from finding its goal.

Upstream: `effect.py`, `power.py`. Downstream: `analysis.py`. Days count the variant's and the
control's share of all who enter.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from streamgauge.streams.experiments import power
from streamgauge.streams.experiments.effect import Comparison
from streamgauge.streams.experiments.plan import Plan


@dataclass(frozen=True, kw_only=True)
class ToGo:
    """The chance to have found the goal by now, and the users (of variant and control) and days
    still needed: for one look, and for the confidence sequence."""

    power: float
    users: int | None
    days: int | None
    power_sequential: float
    users_sequential: int | None
    days_sequential: int | None


def to_go(name: str, comparison: Comparison, plan: Plan) -> ToGo | None:
    """Of the variant of this name; None without a goal, or where it has no spread yet."""
    goal, effect = plan.goal, comparison.absolute
    if goal is None or effect is None or not effect.se or comparison.control_mean is None:
        return None
    mde = abs(goal.mde * (comparison.control_mean if goal.relative else 1))
    spread = effect.se * effect.se * effect.users
    if not (mde and math.isfinite(spread)):
        return None
    needed = power.users_needed(mde, spread, plan.alpha, goal.power)
    sequentially = power.users_needed_sequential(mde, spread, plan.alpha, goal.power, plan.tuning_n)

    def missing(users: int | None) -> int | None:
        return None if users is None else max(0, users - effect.users)

    def days(users: int | None) -> int | None:
        share = (plan.weights[name] + plan.weights[plan.control]) / sum(plan.weights.values())
        if users is None or goal.users_per_day is None or not share:
            return None
        return power.days(users, goal.users_per_day * share)

    return ToGo(
        power=power.achieved(mde, spread, effect.users, plan.alpha),
        users=missing(needed),
        days=days(missing(needed)),
        power_sequential=power.achieved_sequential(
            mde, spread, effect.users, plan.alpha, plan.tuning_n
        ),
        users_sequential=missing(sequentially),
        days_sequential=days(missing(sequentially)),
    )
