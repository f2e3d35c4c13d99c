"""Users that are not as people are."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import polars as pl
import pytest

from streamgauge.schemas.alerts import load_policies
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.metrics import builtin
from streamgauge.schemas.registry import open_registry
from streamgauge.streams.anomalies import users
from streamgauge.streams.anomalies.actions import actions_of
from streamgauge.streams.anomalies.user_branch import UserWatch
from streamgauge.streams.anomalies.users import Judged, Minute
from streamgauge.streams.branch import Accepted
from streamgauge.streams.metrics.fate import NONE

MINUTE = 60_000
START = 1_760_054_400_000
WHO = (0, "u")
Line = tuple[str, str, int, int | None, int]


def told(counts: list[int], evenness: float = 0.0, impossible: int = 0) -> list[Line]:
    """Detector, severity, first minute, end, version of each word."""
    minutes = [
        (WHO, Minute(START + at * MINUTE, count, evenness, impossible))
        for at, count in enumerate(counts)
        if count
    ]
    end = {0: START + len(counts) * MINUTE}
    lines = []
    for each in users.judge(Judged(), minutes, end)[1]:
        if each.word is not None:
            word = each.word
            ended = word["ended_at"]
            lines.append(
                (
                    word["detector"],
                    word["severity"],
                    (word["started_at"] - START) // MINUTE,
                    ended and (ended - START) // MINUTE,
                    word["version"],
                )
            )
    return lines


def test_more_than_anybody_makes_is_flagged_worse_and_cleared_once() -> None:
    #        minute 0    1    2    3  4  5  6  7
    assert told([10, 130, 700, 130, 0, 0, 0, 0]) == [
        ("cap", "yellow", 1, None, 1),
        ("cap", "red", 1, None, 2),
        ("cap", "red", 1, 4, 3),
    ]


def test_a_pause_of_two_minutes_is_the_same_flag() -> None:
    assert told([130, 0, 0, 130, 0, 0]) == [("cap", "yellow", 0, None, 1)]


def test_a_burst_is_by_the_users_own_busy_minutes() -> None:
    assert told([6] * 6 + [40]) == [("burst", "yellow", 6, None, 1)]
    assert told([20] * 6 + [40]) == []
    assert told([40]) == []


def test_five_minutes_like_a_clock_are_a_bot() -> None:
    assert told([11] * 4, evenness=1.01) == []
    assert told([11] * 5, evenness=1.01) == [("bot", "yellow", 4, None, 1)]
    assert told([11] * 5, evenness=1.2) == []
    assert told([11, 11, 0, 11, 11, 11], evenness=1.0) == []


def beats(period: int, jitter: float, count: int, seed: int) -> list[int]:
    """Times of a clock, each off by some share of the period."""
    r = random.Random(seed)
    start = START + r.randrange(MINUTE)
    return [start + at * period + round(r.gauss(0, jitter * period)) for at in range(count)]


@pytest.mark.parametrize(("period", "jitter"), [(500, 0.05), (3_000, 0.02), (7_000, 0.0)])
def test_a_clock_is_a_bot_by_its_third_whole_minute(period: int, jitter: float) -> None:
    for seed in range(5):
        times = beats(period, jitter, 5 * MINUTE // period, seed)
        minutes = [(WHO, minute) for minute in minutes_of(times)]
        words = (each.word for each in users.judge(Judged(), minutes, {})[1])
        seen = next(word for word in words if word and word["detector"] == "bot")
        assert seen["started_at"] <= START + 3 * MINUTE


def test_three_even_minutes_of_other_periods_are_no_bot() -> None:
    times = []
    for at, period in enumerate((3_000, 3_400, 2_700, 3_300)):
        times += [START + at * MINUTE + step for step in range(500, MINUTE, period)]
    minutes = [(WHO, minute) for minute in minutes_of(times)]
    assert all(abs(minute.evenness - 1) < 0.03 for _, minute in minutes)
    assert not users.judge(Judged(), minutes, {})[1]


def test_busy_people_are_no_bots() -> None:
    r = random.Random(4)
    times = sorted(START + r.randrange(600 * MINUTE) for _ in range(20 * 600))
    minutes = [(WHO, minute) for minute in minutes_of(times)]
    assert not [told for told in users.judge(Judged(), minutes, {})[1] if told.place[2] == "bot"]


def test_what_cannot_be_is_told_at_once() -> None:
    assert told([1], impossible=2) == [("impossible", "yellow", 0, None, 1)]


def minutes_of(times: list[int], **columns: Any) -> list[Minute]:
    """As the branch has them, in three batches."""
    watch = UserWatch(open_registry("mock://user-watch"), lateness_ms=3_600_000)
    watch._wanted = lambda: pl.lit(True)  # type: ignore[method-assign]
    for part in range(3):
        chosen = times[part::3]
        size = len(chosen)
        frame = pl.DataFrame(
            {
                "partition": pl.Series([0] * size, dtype=pl.Int32),
                "timestamp": chosen,
                "user_key": ["u"] * size,
                "duration_ms": pl.Series([1.0] * size, dtype=pl.Float64),
                "position_ms": pl.Series([None] * size, dtype=pl.Float64),
                **columns,
            }
        )
        accepted = Accepted(
            frame=frame, watermark=np.full(size, NONE), watermarks={0: START + 60 * MINUTE}
        )
        watch.process(accepted)
    return [minute for _, minute in watch._taken(watch._state)[1]]


def test_evenness_is_one_for_a_clock_and_not_for_people() -> None:
    clock = minutes_of([START + n * 5_400 for n in range(55)])
    assert len(clock) == 5
    assert all(abs(minute.evenness - 1) < 1e-6 for minute in clock)
    r = random.Random(1)
    people = minutes_of(
        [START + n * MINUTE + r.randrange(MINUTE) for n in range(200) for _ in "ab" * 6]
    )
    even = [abs(minute.evenness - 1) <= users.COMB for minute in people]
    assert sum(even) < 0.25 * len(even)


POLICIES = """
policies:
  - {detector: cap, throttle: 60}
  - {detector: cap, severity: red, throttle: 0}
except_users: [monitor]
"""


def acted(user: str, counts: list[int]) -> list[dict[str, Any]]:
    """What policies do about a user with so many events in each minute."""
    minutes = [((0, user), Minute(START + at * MINUTE, n, 0.0, 0)) for at, n in enumerate(counts)]
    told = users.judge(Judged(), minutes, {0: START + len(counts) * MINUTE})[1]
    words = [each.word for each in told if each.word is not None]
    return actions_of(words, load_policies(POLICIES, builtin()))


def test_a_policy_throttles_as_long_as_the_flag_lasts_and_harder_when_it_gets_worse() -> None:
    rows = acted("u", [130, 700, 1, 1, 1, 1, 1])
    assert [(row["rate"], row["severity"], row["ended_at"]) for row in rows] == [
        (60, "yellow", None),
        (0, "red", None),
        (0, "red", START + 2 * MINUTE),
    ]
    assert {(row["action"], row["user_id"], row["started_at"]) for row in rows} == {
        ("throttle", "u", START)
    }
    assert len({row["anomaly_id"] for row in rows}) == 1
    assert acted("monitor", [700]) == []


def test_an_action_goes_out_with_its_flag() -> None:
    registry = open_registry("mock://user-watch")
    policies = load_policies(POLICIES, builtin())
    watch = UserWatch(registry, lateness_ms=3_600_000, policies=policies)
    watch._wanted = lambda: pl.lit(True)  # type: ignore[method-assign]
    times = [START + at * 100 for at in range(200)]
    frame = pl.DataFrame(
        {
            "partition": pl.Series([0] * 200, dtype=pl.Int32),
            "timestamp": times,
            "user_key": ["u"] * 200,
            "duration_ms": pl.Series([None] * 200, dtype=pl.Float64),
            "position_ms": pl.Series([None] * 200, dtype=pl.Float64),
        }
    )
    accepted = Accepted(
        frame=frame, watermark=np.full(200, NONE), watermarks={0: START + 3 * MINUTE}
    )
    watch.process(accepted)
    told = {output.topic: output for output in watch.flush(0.0, {})}
    assert set(told) == {"anomalies", "actions", "anomaly-users"}
    row = Codec(registry).decode(told["actions"].values[0] or b"").record
    assert told["actions"].keys == [f"throttle|u|{row['anomaly_id']}".encode()]
    assert (row["rate"], row["ended_at"], row["undone_at"]) == (60, None, None)
