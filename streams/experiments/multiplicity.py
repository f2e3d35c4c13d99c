"""Several questions asked at once: p values adjusted so that the answers hold together.

Upstream: the p values of variants or metrics. Downstream: `analysis.py`. Holm keeps the chance
of any false find below alpha, whatever the dependence; Benjamini-Hochberg the expected share of
false ones among the finds. Invariant: adjusted values come in the order of the given ones.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down procedure (1979)."""
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    scaled = [p_values[at] * (len(order) - rank) for rank, at in enumerate(order)]
    return _back(order, accumulate(scaled, max))


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's step-up procedure (1995)."""
    order = sorted(range(len(p_values)), key=lambda at: -p_values[at])
    count = len(order)
    scaled = [p_values[at] * count / (count - rank) for rank, at in enumerate(order)]
    return _back(order, accumulate(scaled, min))


def _back(order: Sequence[int], adjusted: Iterable[float]) -> list[float]:
    by_place = dict(zip(order, adjusted, strict=True))
    return [min(1.0, by_place[at]) for at in range(len(order))]


CORRECTIONS: Mapping[str, Callable[[Sequence[float]], list[float]]] = {
    "holm": holm,
    "bh": benjamini_hochberg,
    "none": list,
}
