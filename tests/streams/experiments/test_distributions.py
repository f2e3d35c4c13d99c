"""Tails and quantiles, against SciPy 1.17."""

import pytest

from streamgauge.streams.experiments.distributions import (
    chi_squared_tail,
    t_quantile,
    t_two_sided,
)


@pytest.mark.parametrize(
    ("t", "df", "expected"),
    [
        (1.0, 1.0, 0.5000000000000001),
        (2.5, 3.7, 0.07182202291182678),
        (9.0, 4.0, 0.0008438325176012779),
        (0.3, 999.0, 0.7642395665698116),
        (2.0, 25000.5, 0.04551106207882919),
    ],
)
def test_the_tails_of_t_are_scipys(t: float, df: float, expected: float) -> None:
    assert t_two_sided(t, df) == pytest.approx(expected, rel=1e-9)
    assert t_two_sided(-t, df) == t_two_sided(t, df)


@pytest.mark.parametrize(
    ("tail", "df", "expected"),
    [
        (0.025, 1.0, 12.706204736174705),
        (0.025, 7.3, 2.3450667365477034),
        (0.0005, 4998.2, 3.292474424917242),
    ],
)
def test_the_quantiles_of_t_are_scipys(tail: float, df: float, expected: float) -> None:
    assert t_quantile(tail, df) == pytest.approx(expected, rel=1e-9)


def test_the_ends_of_t_are_numbers() -> None:
    assert t_two_sided(0.0, 5.0) == t_two_sided(0.0, 5000.0) == 1.0
    assert t_two_sided(1e300, 5.0) == t_two_sided(1e300, 1e6) == 0.0


@pytest.mark.parametrize(
    ("x", "df", "expected"),
    [
        (0.0, 3, 1.0),
        (4.0, 1, 0.04550026389635857),
        (7.3, 2, 0.02599112877875535),
        (12.2, 5, 0.03214774253615793),
        (80.0, 6, 3.572865928700233e-15),
        (float("inf"), 2, 0.0),
    ],
)
def test_the_tails_of_chi_squared_are_scipys(x: float, df: int, expected: float) -> None:
    assert chi_squared_tail(x, df) == pytest.approx(expected, rel=1e-9)
