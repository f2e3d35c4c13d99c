"""Sample sizes, against statsmodels and against what comes of them."""

import numpy as np
import pytest

from streamgauge.streams.experiments import power, sequential


@pytest.mark.parametrize(
    ("mde", "alpha", "chance", "statsmodels"),
    [(0.1, 0.05, 0.8, 1569.772), (0.02, 0.01, 0.9, 74396.936)],
)
def test_one_look_needs_the_users_that_statsmodels_says(mde, alpha, chance, statsmodels):
    assert power.users_per_variant(mde, 2.0, alpha, chance) == int(np.ceil(statsmodels))


def test_a_look_at_any_time_with_the_users_it_needs_finds_the_effect_as_often_as_asked():
    users = power.users_per_variant_sequential(0.1, 2.0, 0.05, 0.8, 5000)
    assert users > power.users_per_variant(0.1, 2.0, 0.05, 0.8)
    se = np.sqrt(2 / users)
    lifts = np.random.default_rng(5).normal(0.1, se, 50_000)
    half = sequential.half_width(se, 2 * users, 0.05, sequential.rho(0.05, 5000))
    assert np.mean(np.abs(lifts) > half) == pytest.approx(0.8, abs=0.01)


def test_an_effect_that_no_population_could_show_has_no_number_of_users():
    assert power.users_per_variant_sequential(1e-12, 2.0, 0.05, 0.8, 5000) is None


def test_days_are_those_until_every_variant_has_its_users():
    assert power.days(1000, 3, 1000) == 3
    assert power.days(1001, 3, 1000) == 4
