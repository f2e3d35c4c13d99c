"""The check of the split."""

import numpy as np
import pytest

from streamgauge.streams.experiments.srm import srm_p


def test_a_variant_of_weight_0_counts_neither_in_the_totals_nor_in_the_degrees_of_freedom():
    even = {"a": 0.5, "b": 0.5}
    assert srm_p({"a": 5100, "b": 4900}, even) == pytest.approx(0.0455003, abs=5e-8)
    with_none = {**even, "c": 0.0}
    assert srm_p({"a": 5100, "b": 4900, "c": 0}, with_none) == pytest.approx(0.0455003, abs=5e-8)
    assert srm_p({"a": 5100, "b": 4900, "c": 999}, with_none) == pytest.approx(0.0455003, abs=5e-8)


def test_weights_are_shares_of_their_sum():
    assert srm_p({"a": 10, "b": 90}, {"a": 1, "b": 9}) == 1.0


def test_a_variant_that_nobody_saw_is_a_mismatch():
    assert srm_p({"a": 1000}, {"a": 0.5, "b": 0.5}) < 1e-100


def test_nothing_can_be_said_without_users_or_with_one_variant():
    assert srm_p({}, {"a": 0.5, "b": 0.5}) is None
    assert srm_p({"a": 5}, {"a": 1.0, "b": 0.0}) is None


def test_p_is_uniform_when_users_are_split_as_planned():
    weights = {"a": 0.5, "b": 0.3, "c": 0.2}
    splits = np.random.default_rng(3).multinomial(100_000, list(weights.values()), size=20_000)
    p_values = np.array([srm_p(dict(zip("abc", split, strict=True)), weights) for split in splits])
    for level in (0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95):
        noise = 4 * np.sqrt(level * (1 - level) / len(p_values))
        assert np.mean(p_values <= level) == pytest.approx(level, abs=noise)
