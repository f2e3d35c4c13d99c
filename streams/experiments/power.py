"""How many users an experiment needs, has still to wait for, and for how many days.

Upstream: the spread of a lift, as known before the start or from `effect.py` while it runs.
Downstream: `analysis.py`, `streamgauge experiments power`.

The spread is s² = SE²·n, with n the users of both variants: it stays as users come in. By normal
quantiles, the error on the far side of 0 (below 1e-4 where it matters) not counted. For the
confidence sequence: users at whose look the interval alone shows the effect; looks before can
only add to that.
"""

from __future__ import annotations

import math

from streamgauge.streams.experiments import sequential
from streamgauge.streams.experiments.distributions import STANDARD, normal_quantile

MOST_USERS = 10**15


def users_needed(mde: float, spread: float, alpha: float, power: float) -> int | None:
    """Of both variants for one look at the end; None if more than there are to ask."""
    z = normal_quantile(alpha / 2) + normal_quantile(1 - power)
    users = (z / mde) * (z / mde) * spread if z > 0 else 0.0
    return max(2, math.ceil(users)) if users < MOST_USERS else None


def users_needed_sequential(
    mde: float, spread: float, alpha: float, power: float, tuning_n: float
) -> int | None:
    """Of both variants for a look at any time; None if more than there are to ask."""
    low, high = 1, 2
    while not achieved_sequential(mde, spread, high, alpha, tuning_n) >= power:  # so is NaN
        low, high = high, high * 2
        if high > MOST_USERS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        enough = achieved_sequential(mde, spread, middle, alpha, tuning_n) >= power
        low, high = (low, middle) if enough else (middle, high)
    return high


def achieved(mde: float, spread: float, users: int, alpha: float) -> float:
    """The chance that one look at this many users shows the effect."""
    return STANDARD.cdf(mde / math.sqrt(spread / users) - normal_quantile(alpha / 2))


def achieved_sequential(
    mde: float, spread: float, users: int, alpha: float, tuning_n: float
) -> float:
    """The chance that the confidence sequence shows the effect at this look."""
    se = math.sqrt(spread / users)
    half = sequential.half_width(se, float(users), alpha, sequential.rho(alpha, tuning_n))
    return STANDARD.cdf(float(mde - half) / se)


def days(users: int, users_per_day: float) -> int:
    """Until so many more have come."""
    return math.ceil(users / users_per_day)
