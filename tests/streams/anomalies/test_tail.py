"""The chance that is stated, against the chance that comes about."""

import numpy as np
import pytest

from streamgauge.streams.anomalies.tail import BLOCK, FEWEST, KEPT, Tail


def tail(figures: np.ndarray) -> Tail:
    made = Tail()
    for figure in figures:
        made.add(float(figure))
    return made


def test_nothing_is_rare_before_there_is_a_past() -> None:
    assert tail(np.ones(BLOCK * FEWEST - 1)).chance(1e9) == 1.0
    assert tail(np.ones(BLOCK * FEWEST)).chance(1e9) < 1e-3


@pytest.mark.parametrize("blocks", [10, 40, 300])
@pytest.mark.parametrize("law", ["exponential", "normal", "uniform", "pareto", "lognormal"])
def test_a_new_point_is_called_rarer_than_p_at_most_about_that_often(law: str, blocks: int) -> None:
    rng = np.random.default_rng(7)
    stated, seen, tries = 1e-3, 0.0, 100
    for _ in range(tries):
        past = draw(rng, law, BLOCK * blocks)
        made = tail(past)
        seen += float(np.mean([made.chance(x) < stated for x in draw(rng, law, 300)]))
    allowed = 2.0 if law in ("pareto", "lognormal") and blocks == 10 else 1.0
    assert seen / tries <= allowed * stated + 3 * (stated / (300 * tries)) ** 0.5


def draw(rng: np.random.Generator, law: str, count: int) -> np.ndarray:
    laws = {
        "exponential": lambda: rng.exponential(1, count),
        "normal": lambda: abs(rng.standard_normal(count)),
        "uniform": lambda: rng.uniform(0, 1, count),
        "pareto": lambda: 1 + rng.pareto(2.5, count),
        "lognormal": lambda: np.exp(rng.standard_normal(count)),
    }
    return laws[law]()


def test_spikes_that_come_now_and_then_are_as_common_as_they_were() -> None:
    figures = np.random.default_rng(1).exponential(1, BLOCK * 300)
    figures[:: BLOCK * 50] = 500.0
    assert tail(figures).chance(500.0) >= 5 / 301 / BLOCK
    assert tail(figures).chance(5000.0) < 1e-4


def test_higher_is_never_more_probable() -> None:
    made = tail(np.random.default_rng(2).exponential(1, 3000))
    chances = [made.chance(x) for x in np.linspace(0, 100, 500)]
    assert chances == sorted(chances, reverse=True)


def test_memory_is_bounded() -> None:
    made = tail(np.arange(BLOCK * (KEPT + 5)) % 100)
    assert len(made.maxima) == len(made.ordered) == KEPT
