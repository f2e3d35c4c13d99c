"""Sample sizes, against statsmodels and against what comes of them."""

import numpy as np
import pytest

from streamgauge.streams.experiments import power, sequential


@pytest.mark.parametrize(
    ("mde", "alpha", "chance", "statsmodels"),
    [(0.1, 0.05, 0.8, 2 * 1569.7721), (0.02, 0.01, 0.9, 2 * 74396.9358)],
)
def test_one_look_needs_the_users_that_statsmodels_says(mde, alpha, chance, statsmodels):
    # Variance 1 in either variant: SE² = 4/n for n users of both.
    users = power.users_needed(mde, 4.0, alpha, chance)
    assert users == int(np.ceil(statsmodels))
    assert power.achieved(mde, 4.0, users, alpha) == pytest.approx(chance, abs=1e-4)


def test_a_look_at_any_time_with_the_users_it_needs_finds_the_effect_as_often_as_asked():
    users = power.users_needed_sequential(0.1, 4.0, 0.05, 0.8, 5000)
    assert users > power.users_needed(0.1, 4.0, 0.05, 0.8)
    se = 2 / np.sqrt(users)
    lifts = np.random.default_rng(5).normal(0.1, se, 50_000)
    half = sequential.half_width(se, users, 0.05, sequential.rho(0.05, 5000))
    assert np.mean(np.abs(lifts) > half) == pytest.approx(0.8, abs=0.01)


def test_an_effect_that_no_population_could_show_has_no_number_of_users():
    assert power.users_needed(1e-12, 4.0, 0.05, 0.8) is None
    assert power.users_needed_sequential(1e-12, 4.0, 0.05, 0.8, 5000) is None


def test_a_day_begun_is_a_day():
    assert power.days(3000, 1000) == 3
    assert power.days(3001, 1000) == 4
