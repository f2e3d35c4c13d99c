"""Sample ratio mismatch: whether the users are split as the weights say.

Upstream: users by variant. Downstream: `analysis.py`. Pearson's χ² test; variants of weight 0
count neither in the degrees of freedom nor in the totals. Like every fixed test it is right at
one look: looked at daily, a false alarm at 0.001 comes more often than once in a thousand.
"""

from collections.abc import Mapping

from streamgauge.streams.experiments.distributions import chi_squared_tail

# GrowthBook's and Eppo's threshold; with fewer users than this a variant χ² is too rough.
ALARM = 0.001
LEAST_USERS = 8


def srm_p(users: Mapping[str, int], weights: Mapping[str, float]) -> float | None:
    """How often chance alone would split the users this unevenly; None where it cannot be told."""
    total_weight = sum(weights.values())
    shares = {name: weight / total_weight for name, weight in weights.items() if weight > 0}
    total = sum(users.get(name, 0) for name in shares)
    if len(shares) < 2 or not total:
        return None
    expected = ((users.get(name, 0), total * share) for name, share in shares.items())
    statistic = sum((observed - e) ** 2 / e for observed, e in expected)
    return chi_squared_tail(statistic, len(shares) - 1)
