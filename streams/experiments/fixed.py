"""The fixed-horizon interval and p: right at one look, decided on before the start.

Upstream: `effect.py`. Downstream: `analysis.py`. Both by Student's t with Welch's degrees of
freedom, two-sided.
"""

from streamgauge.streams.experiments.distributions import t_quantile, t_two_sided


def half_width(se: float, df: float, alpha: float) -> float:
    """Of the interval around the estimate."""
    return se * t_quantile(alpha / 2, df)


def p_value(value: float, se: float, df: float) -> float:
    """How often chance alone would show at least this lift, at one look."""
    return t_two_sided(value / se, df)
