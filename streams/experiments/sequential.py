"""The confidence sequence: an interval that may be looked at after every user.

Upstream: `effect.py`. Downstream: `analysis.py`, `power.py`.

Waudby-Smith et al., "Time-uniform central limit theory and asymptotic confidence sequences"
(arXiv 2103.06476v7): equation 9 for the interval, 155 for p, 161 for rho.
Invariants: rho is fixed before the start by alpha and N*, the users at which the sequence is to
be narrowest, and never follows the data; over all looks together the true lift is ever left
outside in at most alpha of the experiments. Functions take numbers or arrays.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Numbers = TypeVar("Numbers", float, NDArray[np.float64])


def rho(alpha: float, tuning_n: float) -> float:
    """The parameter of the mixture that makes the sequence narrowest at `tuning_n` users."""
    log = -2 * np.log(alpha)
    return float(np.sqrt((log + np.log1p(log)) / tuning_n))


def half_width(se: Numbers, users: Numbers, alpha: float, rho: float) -> Numbers:
    """Of the interval around the estimate, for the users of both variants together."""
    grown = users * rho**2 + 1
    return se * np.sqrt(2 * grown / (users * rho**2) * np.log(np.sqrt(grown) / alpha))


def p_value(value: Numbers, se: Numbers, users: Numbers, rho: float) -> Numbers:
    """The least alpha whose interval (with this rho) leaves 0 out: valid at every look."""
    grown = users * rho**2 + 1
    exponent = rho**2 * (value / se) ** 2 * users / (2 * grown)
    return np.minimum(1.0, np.sqrt(grown) * np.exp(-exponent))
