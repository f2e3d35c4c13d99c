"""Sufficient statistics: parts make the whole, and no digit is lost to a large mean."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamgauge.streams.experiments.moments import VARIABLES, Moments

numbers = st.floats(-1e6, 1e6).map(lambda x: round(x, 3))
users = st.lists(st.tuples(*[numbers] * VARIABLES), max_size=30)


def moments(rows: list[tuple[float, ...]]) -> Moments:
    columns = np.array(rows, dtype=float).reshape(-1, VARIABLES).T
    return Moments.of(*columns)


@given(users, users, users)
def test_moments_of_parts_merge_to_those_of_the_whole_in_any_order(one, two, three):
    whole = moments(one + two + three)
    for merged in (
        moments(one) + (moments(two) + moments(three)),
        moments(three) + moments(one) + moments(two),
    ):
        assert merged.count == whole.count
        assert np.allclose(merged.mean, whole.mean, rtol=1e-9, atol=1e-6)
        assert np.allclose(merged.comoment, whole.comoment, rtol=1e-9, atol=1e-2)


def test_they_are_the_means_and_covariances_of_the_users():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(VARIABLES, 50))
    found = Moments.of(*rows)
    assert found.mean == pytest.approx(rows.mean(axis=1))
    assert found.covariance() == pytest.approx(np.cov(rows))
    assert found.covariance(of_sample=False) == pytest.approx(np.cov(rows, ddof=0))


def test_a_huge_mean_costs_no_digits_of_the_variance():
    values = np.tile([0.0, 1.0], 500)
    near, far = Moments.of(values), Moments.of(values + 1e15)
    merged = Moments.of(values[:300] + 1e15) + Moments.of(values[300:] + 1e15)
    assert far.comoment[0, 0] == near.comoment[0, 0] == 250
    assert merged.comoment[0, 0] == pytest.approx(250, rel=1e-3)


@pytest.mark.parametrize("constant", [0.1, 3.3, -1e9 / 3])
def test_a_constant_has_no_variance_at_all(constant: float):
    merged = Moments.of(np.full(7, constant)) + Moments.of(np.full(5, constant))
    assert merged.comoment[0, 0] == 0
    assert merged.mean[0] == constant
