"""Tails and quantiles of the normal, t and chi-squared distributions.

Upstream: nothing. Downstream: `fixed.py`, `srm.py`, `power.py`.

Agrees with SciPy to 1e-8 of the value, which a worker need not load for these few functions.
"""

import math
from statistics import NormalDist

STANDARD = NormalDist()
# Above it Hill's transformation is as good as exact, and the continued fraction slow.
LARGE_DF = 1000.0
STEPS = 10_000


def normal_quantile(upper_tail: float) -> float:
    """z with P(Z > z) = upper_tail."""
    return -STANDARD.inv_cdf(upper_tail)


def normal_two_sided(z: float) -> float:
    """P(|Z| >= |z|)."""
    return math.erfc(abs(z) / math.sqrt(2))


def t_two_sided(t: float, df: float) -> float:
    """P(|T| >= |t|) for a t distribution of `df` degrees of freedom, whole or not."""
    square = t * t / df
    if math.isinf(square):
        return 0.0
    if df > LARGE_DF:
        return normal_two_sided(_hill(t, df))
    return _incomplete_beta(df / 2, 0.5, square)


def t_quantile(upper_tail: float, df: float) -> float:
    """t with P(T > t) = upper_tail, for a tail below one half.

    Newton's method from the normal quantile, which lies below: the tail is convex, so no step
    goes too far.
    """
    t = normal_quantile(upper_tail)
    log_scale = math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - math.log(df * math.pi) / 2
    for _ in range(STEPS):
        density = math.exp(log_scale - (df + 1) / 2 * math.log1p(t * t / df))
        step = (t_two_sided(t, df) / 2 - upper_tail) / density
        t += step
        if abs(step) <= 1e-13 * t:
            break
    return t


def chi_squared_tail(x: float, df: int) -> float:
    """P(X >= x) for a whole number of degrees of freedom."""
    half = x / 2
    if not 0 < half < math.inf:
        return 1.0 if half <= 0 else 0.0
    # The recurrence Q(p + 1, h) = Q(p, h) + h^p e^-h / gamma(p + 1), from Q(1/2) or Q(0).
    tail = math.erfc(math.sqrt(half)) if df % 2 else 0.0
    powers = ((df % 2) / 2 + step for step in range(df // 2))
    return tail + sum(math.exp(p * math.log(half) - half - math.lgamma(p + 1)) for p in powers)


def _hill(t: float, df: float) -> float:
    """The normal deviate of a t value (Hill 1970, Algorithm 395)."""
    a = df - 0.5
    b = 48 * a * a
    y = a * math.log1p(t * t / df)
    correction = (((-0.4 * y - 3.3) * y - 24) * y - 85.5) / (0.8 * y * y + 100 + b) + y + 3
    return (correction / b + 1) * math.sqrt(y)


def _incomplete_beta(a: float, b: float, square: float) -> float:
    """The regularised incomplete beta function I_x(a, b) at x = 1 / (1 + square)."""
    x, rest = 1 / (1 + square), square / (1 + square)
    if rest == 0:
        return 1.0
    front = math.exp(
        math.lgamma(a + b)
        - math.lgamma(a)
        - math.lgamma(b)
        - a * math.log1p(square)
        + b * math.log(rest)
    )
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(a, b, x) / a
    return 1 - front * _fraction(b, a, rest) / b


def _fraction(a: float, b: float, x: float) -> float:
    """Its continued fraction (DLMF 8.17.22) by Lentz's method."""
    tiny = 1e-300
    c = 1.0
    d = 1 / ((1 - (a + b) * x / (a + 1)) or tiny)
    value = d
    for m in range(1, STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        before = value
        for term in (even, odd):
            d = 1 / ((1 + term * d) or tiny)
            c = (1 + term / c) or tiny
            value *= c * d
        if abs(value - before) <= 1e-15 * abs(value):
            break
    return value
