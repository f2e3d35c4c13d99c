"""The stated rate of false alarms, on series in which nothing happens.

Stated: at most 0.4 yellow flags a week by each of the five figures, two by all of them; red
ones a thousandth of a week's each.
"""

from collections.abc import Callable

import numpy as np
import pytest

from streamgauge.streams.anomalies.evidence import DETECTORS
from streamgauge.streams.anomalies.series import Rates, Series

Law = Callable[[np.random.Generator, np.ndarray], np.ndarray]
DAY = 86_400.0
STATED = len(DETECTORS) * Rates().yellow


def autoregressive(rng: np.random.Generator, count: int, coefficient: float) -> np.ndarray:
    values, noise = np.zeros(count), rng.standard_normal(count)
    for at in range(1, count):
        values[at] = coefficient * values[at - 1] + noise[at]
    return values


def rhythm(times: np.ndarray) -> np.ndarray:
    angle = times / DAY * 2 * np.pi
    return 1 + 0.6 * np.sin(angle) + 0.2 * np.sin(2 * angle)


NULLS: dict[str, Law] = {
    "white noise": lambda rng, times: 10 + rng.standard_normal(len(times)),
    "uniform": lambda rng, times: rng.uniform(0, 1, len(times)),
    "AR(1) 0.5": lambda rng, times: autoregressive(rng, len(times), 0.5),
    "AR(1) 0.9": lambda rng, times: autoregressive(rng, len(times), 0.9),
    "random walk": lambda rng, times: np.cumsum(rng.standard_normal(len(times))),
    "seasonal": lambda rng, times: 20 * rhythm(times) + rng.standard_normal(len(times)),
    "counts": lambda rng, times: rng.poisson(200 * rhythm(times)).astype(float),
    "few counts": lambda rng, times: rng.poisson(3 * rhythm(times)).astype(float),
    "rare counts": lambda rng, times: rng.poisson(0.2, len(times)).astype(float),
    "heavy tails": lambda rng, times: rng.standard_t(3, len(times)),
    "log-normal": lambda rng, times: np.exp(rng.standard_normal(len(times))),
    "rounded": lambda rng, times: np.round(rng.standard_normal(len(times))),
}


def flags(values: np.ndarray, times: np.ndarray) -> list[str]:
    series, rates = Series(), Rates()
    return [
        change.severity
        for at, value in zip(times.tolist(), values.tolist(), strict=True)
        for change in series.judge(at, value, rates).changes
        if change.end is None
    ]


@pytest.mark.parametrize("name", NULLS)
@pytest.mark.parametrize(("step", "points", "repeats"), [(3600, 1600, 4), (300, 4032, 2)])
def test_false_alarms_stay_below_what_is_stated(
    name: str, step: int, points: int, repeats: int
) -> None:
    times = np.arange(points) * float(step)
    told = [
        flag
        for seed in range(repeats)
        for flag in flags(NULLS[name](np.random.default_rng(seed), times), times)
    ]
    weeks = repeats * points * step / (7 * DAY)
    assert len(told) <= STATED * weeks
    assert told.count("red") <= 1  # some 40 weeks at 0.004
