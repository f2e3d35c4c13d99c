"""The whole detector: what it finds, what it leaves alone, what it remembers."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgauge.streams.anomalies.flag import Flag
from streamgauge.streams.anomalies.levels import PRESETS
from streamgauge.streams.anomalies.series import Rates, Series, Verdict
from streamgauge.streams.anomalies.snapshot import restored, saved

STEP = 300.0
DAY = 288
RATES = Rates()


def verdicts(values: np.ndarray, series: Series | None = None, first: int = 0) -> list[Verdict]:
    series = series or Series()
    return [
        series.judge((first + at) * STEP, float(value), RATES) for at, value in enumerate(values)
    ]


def opened(said: list[Verdict], begin: int = 0, end: int | None = None) -> list[Flag]:
    return [one for verdict in said[begin:end] for one in verdict.changes if one.end is None]


def daily(days: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    at = np.arange(days * DAY)
    return rng.poisson(100 * (1 + 0.5 * np.sin(at / DAY * 2 * np.pi))).astype(float)


def test_a_spike_is_flagged_at_once_with_what_was_expected_and_clears() -> None:
    values = daily(10)
    values[9 * DAY] = 600
    said = verdicts(values)
    (flag,) = opened(said, 9 * DAY, 9 * DAY + 1)
    assert (flag.detector, flag.severity, flag.observed) == ("spike", "red", 600)
    assert flag.expected == pytest.approx(100, rel=0.3)
    assert not said[9 * DAY + 14].standing


def test_an_outage_is_flagged_within_three_windows() -> None:
    values = daily(10)
    values[9 * DAY : 9 * DAY + 12] = 0
    assert opened(verdicts(values), 9 * DAY, 9 * DAY + 3)


def test_a_daily_jump_that_does_not_come_is_flagged() -> None:
    values = np.tile(np.repeat([20.0, 80.0, 20.0], DAY // 3), 9)
    values += np.random.default_rng(1).uniform(-2, 2, len(values))
    jump = 8 * DAY + DAY // 3
    values[jump : jump + DAY // 3] -= 60
    assert opened(verdicts(values), jump, jump + 5)


def test_a_level_shift_is_flagged_once_and_absorbed() -> None:
    values = np.random.default_rng(1).normal(100, 2, 14 * DAY)
    values[7 * DAY :] += 15
    said = verdicts(values)
    assert opened(said, 7 * DAY, 7 * DAY + 6)
    assert len(opened(said, 7 * DAY)) <= 2
    assert not any(verdict.standing for verdict in said[8 * DAY :])
    assert said[-1].expected == pytest.approx(115, abs=2)


def test_more_frequent_bursts_are_unrest_though_each_alone_is_usual() -> None:
    rng = np.random.default_rng(3)
    values = np.where(rng.random(10 * DAY) < 0.02, 20.0, 0.0)
    values[9 * DAY : 9 * DAY + 12] = [20, 0] * 6
    (flag, *_) = opened(verdicts(values), 9 * DAY, 9 * DAY + 12)
    assert flag.detector in ("unrest", "change")


def test_a_slow_drift_is_flagged_within_a_day() -> None:
    values = np.random.default_rng(1).normal(100, 2, 10 * DAY)
    values[9 * DAY :] += np.linspace(0, 40, DAY)
    assert opened(verdicts(values), 9 * DAY)


def test_the_first_departure_from_a_flat_line_is_flagged() -> None:
    values = np.full(10 * DAY, 45.0)
    values[9 * DAY] = 46
    assert [flag.detector for flag in opened(verdicts(values))] == ["spike"]


def test_a_flat_line_and_a_perfect_rhythm_are_never_flagged() -> None:
    assert not opened(verdicts(np.full(10 * DAY, 45.0)))
    square = np.tile(np.repeat([20.0, 80.0], DAY // 2), 10)
    assert not opened(verdicts(square), 3 * DAY)


def test_nothing_is_red_in_the_first_week() -> None:
    values = daily(4)
    values[3 * DAY] = 5000
    assert [flag.severity for flag in opened(verdicts(values), 3 * DAY, 3 * DAY + 1)] == ["yellow"]


def test_points_that_are_not_later_change_nothing() -> None:
    values = daily(2)
    series, clean = Series(), Series()
    said = []
    for at, value in enumerate(values):
        clean.judge(at * STEP, value, RATES)
        series.judge(at * STEP, value, RATES)
        said += [series.judge(at * STEP, 1e9, RATES), series.judge((at - 1) * STEP, 1e9, RATES)]
    assert [one.skipped for one in said[:2]] == ["duplicate", "out of order"]
    assert series == clean


def test_empty_points_are_missing_data_until_the_next_value() -> None:
    series = Series()
    verdicts(daily(2), series)
    waited = [series.wait((2 * DAY + at) * STEP) for at in range(10)]
    assert [flag.detector for flag in opened(waited)] == ["missing"]
    assert waited[-1].standing
    assert not series.judge((2 * DAY + 10) * STEP, 100.0, RATES).standing


def test_levels_are_held_beside_the_baseline() -> None:
    series = Series()
    said = [
        series.judge(at * 60.0, 350.0, RATES, PRESETS["default"]["response_p95"]) for at in range(7)
    ]
    assert [(flag.detector, flag.start) for flag in opened(said)] == [("threshold", 0.0)]


messy = st.lists(
    st.one_of(st.just(0.0), st.integers(-50, 50).map(float), st.floats(-1e12, 1e12)),
    min_size=1,
    max_size=400,
)


@settings(max_examples=30, deadline=None)
@given(messy, st.floats(0, 1))
def test_verdicts_of_a_beginning_are_the_beginning_of_the_verdicts(
    values: list[float], share: float
) -> None:
    cut = int(share * len(values))
    assert verdicts(np.array(values))[:cut] == verdicts(np.array(values[:cut]))


@pytest.mark.parametrize("cut", [5, 100, 9 * DAY, 9 * DAY + 1, 9 * DAY + 5])
def test_a_restart_says_what_would_have_been_said_and_repeats_nothing(cut: int) -> None:
    values = daily(10)
    values[9 * DAY : 9 * DAY + 8] = 900
    whole = verdicts(values)
    series = Series()
    before = verdicts(values[:cut], series)
    back = restored(Series, json.loads(json.dumps(saved(series))))
    assert before + verdicts(values[cut:], back, cut) == whole


def test_memory_does_not_grow() -> None:
    series = Series()
    verdicts(daily(30), series)
    month = len(json.dumps(saved(series)))
    verdicts(daily(30), series, 30 * DAY)
    assert len(json.dumps(saved(series))) < 1.05 * month < 200_000


def test_huge_and_tiny_values_give_an_answer() -> None:
    values = np.tile([1e300, -1e300, 1e-300, 0.0], 300)
    assert all(np.isfinite(verdict.score) for verdict in verdicts(values))
