"""`streamgauge experiments`: a file in, figures out, and errors that name the row."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

Run = Callable[..., Result]
ANALYZE = ("experiments", "analyze", "--file", "users.csv", "--variant-column", "variant")


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    """10,000 users in two equal variants, of whom 500 and 575 ordered; after `run`'s folder."""
    file = tmp_path / "users.csv"
    rows = ["variant,ordered,before"]
    for variant, ordered in (("old", 500), ("new", 575)):
        rows += [f"{variant},{int(at < ordered)},{at % 7}" for at in range(5000)]
    file.write_text("\n".join(rows))
    return file


def test_analyze_gives_every_figure_of_each_variant_but_the_control(run: Run, orders: Path) -> None:
    line = (*ANALYZE, "--metric", "ordered", "--control", "old", "--covariate", "before", "--json")
    found = json.loads(run(*line).output)
    assert found["control"] == {"name": "old", "users": 5000, "mean": pytest.approx(0.1)}
    assert list(found["variants"]) == ["new"]
    new = found["variants"]["new"]
    assert new["users"] == 5000
    assert new["mean"] == pytest.approx(0.115)
    assert new["lift_relative"] == pytest.approx(0.15)
    assert new["ci_fixed"] == pytest.approx([0.0028602, 0.0271398], abs=5e-8)
    assert new["ci_sequential"] == pytest.approx([-0.0039602, 0.0339602], abs=5e-8)
    assert new["ci_relative_fixed"][0] < 0.15 < new["ci_relative_fixed"][1]
    assert new["p_sequential"] == pytest.approx(0.2601634, abs=5e-8)
    assert set(new["cuped"]) == set(new) - {"cuped", "srm_p"}
    assert new["srm_p"] == found["srm_p"] == 1.0


def test_analyze_prints_a_table_with_the_check_of_the_split(run: Run, orders: Path) -> None:
    output = run(*ANALYZE, "--metric", "ordered", "--control", "old").output
    assert "0.0028602 to 0.02714" in output
    assert "split as planned (SRM): p 1" in output


def test_alpha_and_tuning_n_move_the_intervals(run: Run, orders: Path) -> None:
    def width(*options: str) -> tuple[float, float]:
        line = (*ANALYZE, "--metric", "ordered", *options, "--json")
        (found,) = json.loads(run(*line).output)["variants"].values()
        return tuple(found[name][1] - found[name][0] for name in ("ci_fixed", "ci_sequential"))

    fixed, sequential = width()
    assert width("--alpha", "0.01")[0] > fixed
    assert width("--tuning-n", "10000")[1] < sequential


def test_with_an_effect_to_find_it_says_what_is_to_go(run: Run, orders: Path) -> None:
    line = (*ANALYZE, "--metric", "ordered", "--mde", "10%", "--users-per-day", "500")
    (found,) = json.loads(run(*line, "--json").output)["variants"].values()
    assert found["to_go"]["users"] > 0
    assert found["to_go"]["days"] == -(-found["to_go"]["users"] // 500)
    assert str(found["to_go"]["days"]) in run(*line).output.split("to go")[1]


def test_a_planned_variant_without_users_is_in_the_answer_and_fails_the_split(
    run: Run, orders: Path
) -> None:
    line = (*ANALYZE, "--metric", "ordered", "--weights", "old=.4,new=.4,third=.2", "--json")
    found = json.loads(run(*line).output)
    assert found["control"]["name"] == "old"
    assert found["variants"]["third"]["users"] == 0
    assert found["variants"]["third"]["ci_fixed"] is None
    assert found["srm_p"] < 0.001
    assert "third: the variant has no users" in found["notes"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("variant,y\nold,1\nnew,two\n", "row 2 (line 3): y is 'two'"),
        ("variant,y\nold,NaN\nnew,2\n", "row 1 (line 2): y is 'NaN'"),
        ("variant,y\nold,1\nnew,1e999\n", "row 2 (line 3): y is '1e999'"),
        ("variant,y\nold,1,3\n", "users.csv is not a CSV file with a header"),
        ("", "users.csv is not a CSV file with a header"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_the_place(
    run: Run, tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "users.csv").write_text(text)
    assert said in run(*ANALYZE, "--metric", "y", exit_code=1).output


@pytest.mark.parametrize(
    ("options", "exit_code", "said"),
    [
        (("--metric", "revenue"), 2, "no column revenue: it has variant, ordered, before"),
        (("--metric", "ordered", "--control", "ctrl"), 1, "no variant ctrl: there are new, old"),
        (("--metric", "ordered", "--weights", "old=1"), 2, "new=0 if it should have no users"),
        (("--metric", "ordered", "--weights", "old,new=1"), 2, "'old' is not NAME=SHARE"),
        (("--metric", "ordered", "--weights", "old=x,new=1"), 2, "'x', is not a number"),
        (("--metric", "ordered", "--weights", "new=1,new=2"), 2, "new has two weights"),
        (("--metric", "ordered", "--alpha", "1"), 2, "--alpha"),
        (("--metric", "ordered", "--covariate-denominator", "before"), 2, "needs --covariate"),
    ],
)
def test_wrong_options_name_what_there_is(
    run: Run, orders: Path, options: tuple[str, ...], exit_code: int, said: str
) -> None:
    assert said in run(*ANALYZE, *options, exit_code=exit_code).output


@pytest.mark.parametrize(
    "text", ["variant,y\n", "variant,y\nold,1\n", "variant,y\nold,1\nnew,\n", "variant,y\n,1\n"]
)
def test_next_to_no_users_still_gives_an_answer(run: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "users.csv").write_text(text)
    found = json.loads(run(*ANALYZE, "--metric", "y", "--json").output)
    assert found["notes"]
    assert all(one["p_fixed"] is None for one in found["variants"].values())


def test_power_gives_users_and_days_for_one_look_and_for_any(run: Run) -> None:
    line = ("experiments", "power", "--rate", "0.1", "--mde", "5%", "--users-per-day", "2000")
    found = json.loads(run(*line, "--json").output)
    assert found["mde_absolute"] == pytest.approx(0.005)
    # (1.959964 + 0.841621)² · (0.1 · 0.9 + 0.105 · 0.895) / 0.005²
    assert found["users_per_variant"] == 57760
    assert found["days"] == 58
    assert found["users_per_variant_sequential"] > found["users_per_variant"]
    assert "57760" in run(*line).output


def test_a_covariate_saves_users_by_its_correlation_squared(run: Run) -> None:
    line = ("experiments", "power", "--mean", "12", "--sd", "30", "--mde", "0.5", "--json")
    plain, adjusted = (
        json.loads(run(*line, *more).output)["users_per_variant"]
        for more in ((), ("--correlation", "0.6"))
    )
    assert adjusted == pytest.approx(plain * (1 - 0.6**2), abs=1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--mde", "1"), "give --rate, or --mean and --sd"),
        (("--mean", "1", "--mde", "1"), "give --rate, or --mean and --sd"),
        (("--rate", "0.9", "--mde", "20%"), "cannot become 1.08"),
        (("--mean", "0", "--sd", "1", "--mde", "5%"), "--mde as an amount"),
        (("--rate", "0.1", "--mde", "lots"), "'lots' is neither an amount"),
    ],
)
def test_a_plan_without_a_baseline_or_an_effect_is_refused(
    run: Run, options: tuple[str, ...], said: str
) -> None:
    assert said in run("experiments", "power", *options, exit_code=2).output
