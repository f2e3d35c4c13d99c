"""How many users an experiment needs, and for how many days.

Upstream: what is known of the metric before the start. Downstream: `streamgauge experiments
power`. By normal quantiles: n a variant = (z_alpha/2 + z_power)²·(σ²_C + σ²_T)/MDE². For the
confidence sequence the users at whose look the interval would show the effect with this power;
looks before can only add to it.
"""

from __future__ import annotations

import math

from streamgauge.streams.experiments import sequential
from streamgauge.streams.experiments.distributions import normal_quantile

MOST_USERS = 10**15


def users_per_variant(mde: float, variances: float, alpha: float, power: float) -> int:
    """For one look at the end; `variances` is the sum of the two variants'."""
    z = normal_quantile(alpha / 2) + normal_quantile(1 - power)
    return max(2, math.ceil((z / mde) ** 2 * variances))


def users_per_variant_sequential(
    mde: float, variances: float, alpha: float, power: float, tuning_n: float
) -> int | None:
    """For a look at any time; None if more than there are people to ask."""
    rho = sequential.rho(alpha, tuning_n)
    z = normal_quantile(1 - power)

    def shown(users: int) -> bool:
        se = math.sqrt(variances / users)
        return float(sequential.half_width(se, 2.0 * users, alpha, rho)) + z * se <= mde

    low, high = 1, 2
    while not shown(high):
        low, high = high, high * 2
        if high > MOST_USERS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if shown(middle) else (middle, high)
    return high


def days(users_per_variant: int, variants: int, users_per_day: float) -> int:
    """Until every variant has its users."""
    return math.ceil(users_per_variant * variants / users_per_day)
