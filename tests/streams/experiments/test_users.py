"""From rows to moments: the order of rows, and rows with something missing."""

import numpy as np
import polars as pl
import pytest

from streamgauge.streams.experiments.users import by_variant


def test_the_order_of_the_rows_does_not_change_a_bit():
    rng = np.random.default_rng(31)
    frame = pl.DataFrame(
        {
            "variant": rng.choice(["a", "b"], 2000),
            "outcome": rng.lognormal(0, 3, 2000),
            "denominator": rng.random(2000),
            "covariate": [None, *rng.lognormal(0, 3, 1999)],
        }
    )
    one, other = by_variant(frame), by_variant(frame.sample(fraction=1, shuffle=True, seed=1))
    assert list(one.arms) == list(other.arms) == ["a", "b"]
    for name in one.arms:
        assert (one.arms[name].mean == other.arms[name].mean).all()
        assert (one.arms[name].comoment == other.arms[name].comoment).all()


def test_a_user_without_outcome_counts_as_assigned_and_in_no_mean():
    frame = pl.DataFrame({"variant": ["a", "a", "b", None], "outcome": [1.0, None, None, 5.0]})
    users = by_variant(frame)
    assert users.assigned == {"a": 2, "b": 1}
    assert {name: arm.count for name, arm in users.arms.items()} == {"a": 1, "b": 0}
    assert "users without a variant, left out: 1" in users.notes
    assert any(note.startswith("users without an outcome") for note in users.notes)


def test_a_user_without_covariate_stays_with_the_mean_one():
    columns = {"variant": ["a", "a", "b"], "outcome": [1.0, 2.0, 3.0]}
    users = by_variant(pl.DataFrame({**columns, "covariate": [10.0, None, 20.0]}))
    assert users.arms["a"].mean[2] == pytest.approx(12.5)
    assert users.notes == ("users without a covariate, given the mean: 1",)

    nowhere = pl.Series([None] * 3, dtype=pl.Float64)
    assert by_variant(pl.DataFrame({**columns, "covariate": nowhere})).arms["a"].mean[2] == 0


@pytest.mark.parametrize(
    ("columns", "proportion"),
    [
        ({"outcome": [0.0, 1.0, 1.0]}, True),
        ({"outcome": [0.0, 1.0, 2.0]}, False),
        ({"outcome": [0.0, 1.0, 1.0], "denominator": [1.0, 1.0, 2.0]}, False),
    ],
)
def test_an_outcome_of_nothing_but_0_and_1_is_a_proportion(columns, proportion):
    assert (
        by_variant(pl.DataFrame({"variant": ["a", "a", "b"], **columns})).proportion is proportion
    )
