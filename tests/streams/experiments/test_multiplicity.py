"""Adjusted p values, against statsmodels 0.15 `multipletests`."""

import pytest

from streamgauge.streams.experiments.multiplicity import benjamini_hochberg, holm

BENJAMINI_HOCHBERG_1995 = [0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459]
BENJAMINI_HOCHBERG_1995 += [0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0]


@pytest.mark.parametrize(
    ("p_values", "by_holm", "by_bh"),
    [
        ([], [], []),
        ([0.5], [0.5], [0.5]),
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02], [0.02, 0.04, 0.04, 0.02]),
        ([0.02, 0.02, 0.02, 0.9], [0.08, 0.08, 0.08, 0.9], [0.08 / 3, 0.08 / 3, 0.08 / 3, 0.9]),
        ([0.9, 0.001, 0.04], [0.9, 0.003, 0.08], [0.9, 0.003, 0.06]),
    ],
)
def test_they_are_statsmodels(p_values, by_holm, by_bh):
    assert holm(p_values) == pytest.approx(by_holm)
    assert benjamini_hochberg(p_values) == pytest.approx(by_bh)


def test_the_papers_own_example_finds_four_and_holm_three():
    def found(adjusted):
        return sum(p <= 0.05 for p in adjusted)

    assert found(benjamini_hochberg(BENJAMINI_HOCHBERG_1995)) == 4
    assert found(holm(BENJAMINI_HOCHBERG_1995)) == 3
