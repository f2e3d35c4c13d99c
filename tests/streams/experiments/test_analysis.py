"""Lifts and intervals: golden values, coverage, and extremes that still get an answer."""

import json

import numpy as np
import pytest

from streamgauge.streams.experiments import fixed
from streamgauge.streams.experiments.analysis import analyze
from streamgauge.streams.experiments.effect import compare
from streamgauge.streams.experiments.errors import ExperimentError
from streamgauge.streams.experiments.moments import Moments
from streamgauge.streams.experiments.plan import Goal, Plan

# tea-tasting's make_users_data(rng=42, covariates=True): users, then sums and sums of products of
# orders, sessions, and either before the experiment.
CONTROL = (
    2023,
    [1073, 4038, 1090, 4031],
    [
        [2073, 2648, 1691, 2692],
        [2648, 10098, 2715, 9932],
        [1691, 2715, 2720, 3701],
        [2692, 9932, 3701, 13779],
    ],
)
TREATMENT = (
    1977,
    [1133, 3920, 1006, 3941],
    [
        [2121, 2730, 1551, 2721],
        [2730, 9698, 2407, 9738],
        [1551, 2407, 2380, 3324],
        [2721, 9738, 3324, 13579],
    ],
)


def from_sums(users, sums, products, *, denominators: bool) -> Moments:
    mean = np.array(sums) / users
    comoment = np.array(products) - users * np.outer(mean, mean)
    if not denominators:
        mean[[1, 3]] = 1
        comoment[[1, 3]] = comoment[:, [1, 3]] = 0
    return Moments(count=users, mean=mean, comoment=comoment)


def tea(*, denominators: bool) -> dict[str, Moments]:
    return {
        name: from_sums(*arm, denominators=denominators)
        for name, arm in (("0", CONTROL), ("1", TREATMENT))
    }


def two(**decided) -> Plan:
    return Plan(**{"control": "a", "weights": {"a": 1, "b": 1}, **decided})


def rate(users: int, converted: int) -> Moments:
    return Moments.of(np.r_[np.ones(converted), np.zeros(users - converted)])


def test_two_rates_have_growthbooks_intervals_and_p_values():
    arms = {"a": rate(5000, 500), "b": rate(5000, 575)}
    found = analyze(arms, two(proportion=True)).lifts["b"]
    assert found.lift_absolute == pytest.approx(0.015)
    assert found.ci_fixed == pytest.approx((0.0028602, 0.0271398), abs=5e-8)
    assert found.p_fixed == pytest.approx(0.0154516, abs=5e-8)
    assert found.ci_sequential == pytest.approx((-0.0039602, 0.0339602), abs=5e-8)
    assert found.p_sequential == pytest.approx(0.2601634, abs=5e-8)


def test_means_and_ratios_with_and_without_cuped_are_tea_tastings():
    plan = Plan(control="0", weights={"0": 1, "1": 1}, cuped=True)
    means = analyze(tea(denominators=False), plan)
    assert means.lifts["1"].lift_absolute == pytest.approx(0.0426901, abs=5e-8)
    assert means.lifts["1"].p_fixed == pytest.approx(0.1177318, abs=5e-8)
    assert means.cuped["1"].lift_absolute == pytest.approx(0.0583039, abs=5e-8)
    assert means.cuped["1"].p_fixed == pytest.approx(0.0073304, abs=5e-8)
    assert means.cuped["1"].ci_fixed == pytest.approx((0.0156965102, 0.1009112750), abs=5e-10)
    assert means.cuped["1"].mean == pytest.approx(0.5809871937)

    ratios = analyze(tea(denominators=True), plan)
    assert ratios.lifts["1"].p_fixed == pytest.approx(0.0762376, abs=5e-8)
    assert ratios.cuped["1"].p_fixed == pytest.approx(0.0022929, abs=5e-8)


def worked_example(base: float) -> tuple[np.ndarray, ...]:
    """Outcome, denominator and covariate of control and treatment, as gbstats was given them."""
    rng = np.random.default_rng(1)
    for at in (3.0, -3.0):
        x = rng.normal(2, 1, (2, 400))
        y = at + x + rng.normal(0, 1, (2, 400))
        y[1] += 0.2
        d, _ = 1.0 + rng.poisson(2, (2, 400)), rng.poisson(2, (2, 400))
        if at == base:
            break
    return y, d, x


@pytest.mark.parametrize(
    ("base", "one_look", "every_look", "of_ratio"),
    [
        (
            3.0,
            (0.019433045446679738, 0.07982042408864118),
            (-0.004044970169746927, 0.10329843970506805),
            (-0.058909148259173844, 0.10036016666828909),
        ),
        (
            -3.0,
            (-0.05343053185004079, 0.24746585219027487),
            (-0.1704165468738909, 0.364451867214125),
            (-0.2216304117244417, 0.19656417459124342),
        ),
    ],
)
def test_relative_intervals_are_growthbooks_also_for_a_negative_mean(
    base, one_look, every_look, of_ratio
):
    y, d, x = worked_example(base)
    arms = {name: Moments.of(y[at], None, x[at]) for at, name in enumerate("ab")}
    found = analyze(arms, two(cuped=True)).cuped["b"]
    assert found.ci_relative_fixed == pytest.approx(one_look)
    assert found.ci_relative_sequential == pytest.approx(every_look)
    assert np.sign(found.lift_relative) == np.sign(found.lift_absolute)

    arms = {name: Moments.of(y[at], d[at]) for at, name in enumerate("ab")}
    assert analyze(arms, two()).lifts["b"].ci_relative_fixed == pytest.approx(of_ratio)


def test_with_a_covariate_the_interval_is_narrower_by_the_correlation_and_covers_the_lift():
    rng = np.random.default_rng(17)
    runs, users, lift, correlation = 3_000, 300, 0.2, 0.8
    covered, widths = [], []
    for _ in range(runs):
        covariate = rng.normal(5, 1, (2, users))
        noise = rng.normal(0, np.sqrt(1 - correlation**2), (2, users))
        outcome = 10 + correlation * covariate + noise
        outcome[1] += lift
        control, treatment = (Moments.of(outcome[arm], None, covariate[arm]) for arm in range(2))
        plain, adjusted = (
            compare(control, treatment, cuped=cuped).absolute for cuped in (False, True)
        )
        half = fixed.half_width(adjusted.se, adjusted.df, 0.05)
        covered.append(abs(adjusted.value - lift) <= half)
        widths.append(adjusted.se / plain.se)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)
    assert np.mean(widths) == pytest.approx(np.sqrt(1 - correlation**2), rel=0.02)


def test_relative_and_ratio_intervals_cover_the_true_lift():
    rng = np.random.default_rng(19)
    runs, users, covered = 1_500, 400, []
    for _ in range(runs):
        sessions = 1.0 + rng.poisson(3, (2, users))
        orders = rng.poisson(sessions * np.array([[0.30], [0.33]])).astype(float)
        control, treatment = (Moments.of(orders[arm], sessions[arm]) for arm in range(2))
        relative = compare(control, treatment).relative
        half = fixed.half_width(relative.se, relative.df, 0.05)
        covered.append(abs(relative.value - 0.1) <= half)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.015)


def test_several_variants_are_adjusted_together():
    arms = {"a": rate(5000, 500), "b": rate(5000, 575), "c": rate(5000, 560), "d": Moments.none()}
    weights = {"a": 1, "b": 1, "c": 1, "d": 0}
    lifts = analyze(arms, two(weights=weights)).lifts
    assert lifts["b"].p_fixed_adjusted == pytest.approx(2 * lifts["b"].p_fixed)
    assert lifts["c"].p_fixed_adjusted == pytest.approx(lifts["c"].p_fixed)
    assert lifts["d"].p_fixed_adjusted is None


def test_what_is_to_go_brings_the_experiment_to_its_power():
    goal = Goal(mde=0.1, relative=True, power=0.9, users_per_day=300)
    weights = {"a": 1, "b": 1, "c": 1}
    arms = {"a": rate(5000, 500), "b": rate(5000, 500)}
    now = analyze(arms, two(weights=weights, proportion=True, goal=goal)).lifts["b"].to_go
    assert now.power < 0.9
    assert now.days == -(-now.users // 200)  # of 300 users a day 200 come to a and b
    assert now.users_sequential > now.users

    more = now.users // 2
    grown = {name: rate(5000 + more, (5000 + more) // 10) for name in arms}
    then = analyze(grown, two(weights=weights, proportion=True, goal=goal)).lifts["b"].to_go
    assert then.power == pytest.approx(0.9, abs=1e-3)
    assert then.users < 10


def moments(*values: float) -> Moments:
    return Moments.of(np.array(values))


@pytest.mark.parametrize(
    ("control", "treatment", "said"),
    [
        (Moments.none(), Moments.none(), "the control has no users"),
        (moments(1.0, 2.0), Moments.none(), "the variant has no users"),
        (moments(1.0), moments(2.0), "at least two users"),
        (moments(0.1, 0.1, 0.1), moments(0.1, 0.1), "neither has any variance"),
        (moments(0.1, 0.1), moments(0.1, 0.2), "one of the two has no variance"),
        (moments(0.0, 0.0), moments(1.0, 2.0), "the control's mean is 0"),
        (moments(-1.0, 1.1), moments(1.0, 2.0), "close to 0"),
        (moments(1e200, 2e200), moments(1e200, 3e200), "too large for a variance"),
        (moments(1.7e308, 1e308), moments(1.7e308, -1.7e308), "too large to add up"),
        (moments(-1.7e308, -1.7e308), moments(1.7e308, 1.7e308), "too far apart"),
        (moments(1e-310, 2e-310), moments(1.0, 2.0), "too close to 0"),
    ],
)
def test_extremes_get_an_answer_in_words_and_no_nan(control, treatment, said):
    found = analyze({"a": control, "b": treatment}, two(cuped=True))
    text = json.dumps(found.to_json(), allow_nan=False)  # raises on NaN and infinity
    assert said in text


def test_a_huge_mean_changes_nothing_about_the_absolute_lift():
    rng = np.random.default_rng(23)
    control, treatment = rng.integers(0, 50, (2, 1000)).astype(float)
    near = analyze({"a": Moments.of(control), "b": Moments.of(treatment)}, two())
    far = analyze({"a": Moments.of(control + 1e13), "b": Moments.of(treatment + 1e13)}, two())
    assert far.lifts["b"].ci_fixed == pytest.approx(near.lifts["b"].ci_fixed, abs=1e-2)
    assert far.lifts["b"].p_fixed == pytest.approx(near.lifts["b"].p_fixed, rel=1e-2)


def test_a_covariate_that_is_the_outcome_leaves_no_variance_and_no_nonsense():
    rng = np.random.default_rng(29)
    y = rng.normal(1e6, 1, (2, 100))
    arms = {name: Moments.of(y[at], None, y[at]) for at, name in enumerate("ab")}
    found = analyze(arms, two(cuped=True))
    assert found.cuped["b"].ci_fixed is None
    assert any("variance" in note for note in found.notes)


def test_a_denominator_that_adds_up_to_0_is_told():
    arms = {"a": Moments.of(np.ones(3), np.zeros(3)), "b": Moments.of(np.ones(3), np.ones(3))}
    found = analyze(arms, two())
    assert found.lifts["b"].lift_absolute is None
    assert "b: the control's denominator adds up to 0" in found.notes


def test_a_covariate_that_one_variant_has_nothing_of_changes_nothing():
    ones, y, x = np.ones(3), np.array([1.0, 2.0, 3.0]), np.array([3.0, 1.0, 2.0])
    arms = {"a": Moments.of(y, None, x, ones), "b": Moments.of(y + 1, None, x, 0 * ones)}
    found = analyze(arms, two(cuped=True))
    assert found.cuped["b"].ci_fixed == found.lifts["b"].ci_fixed
    assert any("the covariate explains nothing" in note for note in found.notes)


def test_a_mismatched_split_is_told():
    arms = {"a": rate(5200, 500), "b": rate(4800, 575)}
    found = analyze(arms, two())
    assert found.srm_p < 0.001
    assert any("SRM: the split differs" in note for note in found.notes)


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ({"a": 1, "b": -1}, "the weight of b is -1"),
        ({"a": 1, "b": float("nan")}, "the weight of b is nan"),
        ({"a": 0, "b": 0}, "the weights add up to 0"),
        ({"b": 1, "c": 1}, "there is no variant a: there are b, c"),
        (dict.fromkeys(map(str, range(51)), 1), "51 variants"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(weights, said):
    with pytest.raises(ExperimentError, match=said):
        two(weights=weights)
