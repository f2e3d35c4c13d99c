"""The confidence sequence: golden values, and what looking two hundred times does."""

import numpy as np
import pytest

from streamgauge.streams.experiments import sequential

RUNS, LOOKS, USERS_A_LOOK = 2_000, 200, 25


def test_its_parameter_and_width_are_growthbooks():
    rho = sequential.rho(0.05, 5000)
    assert rho == pytest.approx(0.0398400668, abs=5e-11)
    half = sequential.half_width(np.sqrt(1 / 5000), 5000, 0.05, rho)
    assert half == pytest.approx(0.0429243372, abs=5e-11)


@pytest.fixture(scope="module")
def looks():
    """Lift, its error and the users of A/A experiments, (RUNS, LOOKS) each."""
    rng = np.random.default_rng(11)

    def arm():
        means = rng.normal(0, 1 / np.sqrt(USERS_A_LOOK), (RUNS, LOOKS))
        squares = rng.chisquare(USERS_A_LOOK - 1, (RUNS, LOOKS)) + USERS_A_LOOK * means**2
        mean = np.cumsum(means, axis=1) / np.arange(1, LOOKS + 1)
        return mean, (np.cumsum(squares, axis=1) - users * mean**2) / (users - 1)

    users = USERS_A_LOOK * np.arange(1, LOOKS + 1)
    (control, variance_c), (treatment, variance_t) = arm(), arm()
    return treatment - control, np.sqrt((variance_c + variance_t) / users), 2.0 * users


def test_looked_at_two_hundred_times_it_finds_nothing_in_95_of_100_experiments_without_effect(
    looks,
):
    lift, se, users = looks
    found = np.abs(lift) > sequential.half_width(se, users, 0.05, sequential.rho(0.05, 5000))
    peeking = np.abs(lift) > 1.96 * se
    assert found.any(axis=1).mean() <= 0.05
    assert peeking.any(axis=1).mean() > 0.35  # the same looks, with the fixed interval


def test_its_p_is_below_alpha_exactly_where_the_interval_leaves_0_out(looks):
    lift, se, users = looks
    rho = sequential.rho(0.05, 5000)
    p_values = sequential.p_value(3 * lift, se, users, rho)
    outside = np.abs(3 * lift) > sequential.half_width(se, users, 0.05, rho)
    assert 0 < outside.mean() < 1
    assert ((p_values < 0.05) == outside).all()


def test_it_is_narrowest_for_its_users_near_the_tuning_n():
    users = np.array([500.0, 5_000.0, 50_000.0])
    at_tuned, *others = (
        sequential.half_width(1.0, users[1], 0.05, sequential.rho(0.05, tuning_n))
        for tuning_n in (users[1], users[0], users[2])
    )
    assert at_tuned < min(others)
