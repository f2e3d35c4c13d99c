"""Quantiles: buckets, estimates, and intervals that cover the truth at every look."""

from __future__ import annotations

import json
from math import exp
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from streamgauge.cli import main
from streamgauge.streams.experiments.counts import Counts, bucket_of, ends_of
from streamgauge.streams.experiments.plan import Plan
from streamgauge.streams.experiments.quantile_analysis import analyze_quantile
from streamgauge.streams.experiments.quantiles import Distribution, apart

PLAN = Plan(control="a", weights={"a": 1, "b": 1})


def test_a_value_lies_in_its_bucket_and_buckets_ascend() -> None:
    random = np.random.default_rng(1)
    edges = [
        sign * (2**power + off) for power in range(61) for off in (-1, 0, 1) for sign in (-1, 1)
    ]
    values = np.sort(np.r_[np.arange(-3000, 3000), edges, random.integers(-(2**60), 2**60, 2000)])
    bucket = bucket_of(values)
    least, most = ends_of(bucket)
    assert ((least <= values) & (values <= most)).all()
    assert (np.diff(bucket) >= 0).all()
    assert (least[np.abs(values) < 512] == values[np.abs(values) < 512]).all()
    assert ((most - least) <= np.abs(least) / 255).all()


def test_counts_are_added_and_taken_away_exactly() -> None:
    random = np.random.default_rng(2)
    first, second = random.integers(-900, 10**7, (2, 500))
    both = Counts.of(np.r_[first, second])
    assert (Counts.of(first) + Counts.of(second)).to_json() == both.to_json()
    assert (both - Counts.of(first)).to_json() == Counts.of(second).to_json()
    assert Counts.of_json(both.to_json()).to_json() == both.to_json()
    assert (both - both).to_json() == "[]"


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5, 0.9, 0.99])
def test_the_estimate_is_the_inverse_of_the_empirical_distribution(share: float) -> None:
    values = np.round(np.random.default_rng(3).lognormal(2, 1, 977), 1)
    expected = np.quantile(values, share, method="inverted_cdf")
    assert Distribution.of(values).quantile(share) == expected


def test_buckets_move_the_estimate_by_less_than_their_width() -> None:
    values = np.random.default_rng(4).lognormal(3, 1, 5_000)
    counts = Counts.of(np.rint(values * 1e6).astype(np.int64))
    low, high = ends_of(counts.bucket)
    rough = Distribution(low=low / 1e6, high=high / 1e6, users=counts.users)
    exact = Distribution.of(values)
    for share in (0.1, 0.5, 0.9):
        assert rough.quantile(share) == pytest.approx(exact.quantile(share), rel=0.004)
        wide, tight = (apart(d, d, share, 0.05, 5_000).absolute for d in (rough, exact))
        assert wide is not None and tight is not None
        assert wide[0] <= tight[0] * 0.99 and wide[1] >= tight[1] * 0.99


@pytest.mark.parametrize(("share", "z"), [(0.5, 0.0), (0.9, 1.2815515655446004)])
def test_the_fixed_interval_covers_the_true_lift(share: float, z: float) -> None:
    random = np.random.default_rng(5)
    true, runs, inside = 0.2 * exp(2 + z), 400, 0
    for _ in range(runs):
        arms = {"a": Distribution.of(random.lognormal(2, 1, 800))}
        arms["b"] = Distribution.of(1.2 * random.lognormal(2, 1, 800))
        low, high = analyze_quantile(arms, share, PLAN).lifts["b"].ci_fixed or (0.0, 0.0)
        inside += low <= true <= high
    assert 0.93 <= inside / runs <= 0.975


@pytest.mark.parametrize("ties", [False, True])
def test_the_sequence_holds_at_every_look(ties: bool) -> None:
    """A/A, looked at 12 times: the true difference is ever left outside in at most 5 %."""
    random = np.random.default_rng(6)
    runs, looks, left_out, rejected = 60, range(80, 1_040, 80), 0, 0
    for _ in range(runs):
        values = random.lognormal(2, 1, (2, 1_000))
        if ties:  # most users did nothing, and the quantile lies at a step
            values = np.floor(values / 12)
        seen = [
            apart(*(Distribution.of(arm[:n]) for arm in values), 0.75, 0.05, 500) for n in looks
        ]
        known = [look.absolute for look in seen if look.absolute is not None]
        left_out += any(low > 0 or high < 0 for low, high in known)
        rejected += any(look.p < 0.05 for look in seen)
    assert left_out <= rejected <= 0.05 * runs


def test_the_sequence_narrows_onto_a_true_lift_and_excludes_zero() -> None:
    random = np.random.default_rng(7)
    control, treatment = random.exponential(10, 20_000), random.exponential(13, 20_000)
    widths = []
    for n in (1_000, 5_000, 20_000):
        arms = {"a": Distribution.of(control[:n]), "b": Distribution.of(treatment[:n])}
        lift = analyze_quantile(arms, 0.9, PLAN).lifts["b"]
        assert lift.ci_sequential is not None and lift.ci_relative_sequential is not None
        assert lift.ci_sequential[0] <= 3 * np.log(10) <= lift.ci_sequential[1]
        assert lift.ci_relative_sequential[0] <= 0.3 <= lift.ci_relative_sequential[1]
        widths.append(lift.ci_sequential[1] - lift.ci_sequential[0])
    assert widths[0] > widths[1] > widths[2]
    assert lift.ci_sequential[0] > 0
    assert lift.p_sequential is not None and lift.p_sequential < 0.05


@pytest.mark.parametrize("sizes", [(0, 0), (0, 5), (1, 1), (3, 400), (400, 400)])
def test_extremes_give_a_clear_answer(sizes: tuple[int, int]) -> None:
    for value in (0.0, -5.0, 1e300, -1e-300):
        arms = {
            name: Distribution.of(np.full(n, value)) for name, n in zip("ab", sizes, strict=True)
        }
        analysis = analyze_quantile(arms, 0.9, PLAN)
        assert "NaN" not in json.dumps(analysis.to_json(), allow_nan=False)
        assert analysis.notes
        lift = analysis.lifts["b"]
        assert lift.p_sequential in (None, 1.0)
        if sizes == (400, 400):
            assert (lift.lift_absolute, lift.ci_sequential) == (0.0, (0.0, 0.0))


def test_a_file_of_users(tmp_path: Path) -> None:
    random = np.random.default_rng(8)
    lines = ["variant,minutes"]
    for name, scale in (("control", 10), ("new", 12)):
        lines += [f"{name},{value:.3f}" for value in random.exponential(scale, 2_000)]
    file = tmp_path / "users.csv"
    file.write_text("\n".join(lines), encoding="utf-8")
    asked = ["experiments", "analyze", "--file", str(file), "--variant-column", "variant"]
    asked += ["--metric", "minutes", "--quantile", "0.9"]
    told = CliRunner().invoke(main, [*asked, "--json"])
    variant = json.loads(told.output)["variants"]["new"]
    assert variant["ci_fixed"][0] < 2 * np.log(10) < variant["ci_fixed"][1]
    assert variant["ci_sequential"][0] < variant["ci_fixed"][0]
    assert "p90" in CliRunner().invoke(main, asked).output
    refused = CliRunner().invoke(main, [*asked, "--covariate", "minutes"])
    assert refused.exit_code == 2 and "--quantile takes neither" in refused.output
