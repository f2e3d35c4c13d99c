"""What must hold of flags that cannot be computed again: right ones pass, planted faults do not."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest

from streamgauge.cli.verify.flag_targets import compare_flags
from streamgauge.cli.verify.flags import MINUTE
from streamgauge.cli.verify.series_flags import DETECTORS, Series, SeriesFlags
from streamgauge.cli.verify.user_flags import UserFlags
from streamgauge.streams.anomalies.watched import Memory, Settings

START = 1_760_000_400_000
SIZE = 1_200

Flags = dict[tuple[str, str, int], list[dict[str, Any]]]


def some_series(rng: random.Random) -> dict[int, float]:
    """Noise with spikes, a shift and a drift in it; some minutes are missing."""
    values = {}
    for at in range(SIZE):
        level = 100.0 + 60 * (at > 700) + max(0, at - 900)
        value = rng.gauss(level, 5) * rng.choice([1] * 200 + [4, 9])
        if rng.random() < 0.97:
            values[START + at * MINUTE] = value
    return values


def flags_of(values: dict[int, float]) -> Flags:
    settings = Settings(metric="m", dimensions="{}", zeros=False, detected=True, levels={})
    memory = Memory()
    flags: Flags = defaultdict(list)
    for minute, value in values.items():
        for word in memory.feed(minute, value, settings):
            if word["detector"] in DETECTORS:
                flags[word["series"], word["detector"], word["started_at"]].append(word)
    return flags


def faults(values: dict[int, float], flags: Flags) -> list[str]:
    end = max(values) + MINUTE
    series = Series(
        metric="m",
        dimensions="{}",
        values=values,
        zeros=False,
        is_detected=True,
        is_whole=True,
        end=end,
    )
    users = UserFlags(lateness_ms=3_600_000, consent_denied=False)
    told = SeriesFlags(series={"m": series})
    found = compare_flags(flags, told, users, done=end, is_whole=True)
    return list(map(str, found.differences))


@pytest.mark.parametrize("seed", range(5))
def test_right_flags_pass(seed: int) -> None:
    values = some_series(random.Random(seed))
    flags = flags_of(values)
    assert flags
    assert faults(values, flags) == []
    # However far it has come.
    for share in range(1, 20):
        some = dict(list(values.items())[: share * SIZE // 20])
        assert faults(some, flags_of(some)) == []


def again(words: list[dict[str, Any]]) -> None:
    words.append(words[-1])


def worse(words: list[dict[str, Any]]) -> None:
    words[0]["severity"] = "red"


def moved(words: list[dict[str, Any]]) -> None:
    for word in words:
        word["observed"] += 1


def weak(words: list[dict[str, Any]]) -> None:
    words[0]["score"] = 0.1


def back(words: list[dict[str, Any]]) -> None:
    words[-1]["ended_at"] = words[0]["started_at"] - MINUTE


def endless(words: list[dict[str, Any]]) -> None:
    words[-1]["ended_at"] = START + (SIZE - 1) * MINUTE


def uncleared(words: list[dict[str, Any]]) -> None:
    words.pop()


def unfinished(words: list[dict[str, Any]]) -> None:
    words[-1]["is_final"] = False


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (again, "word 2 again"),
        (worse, "nothing red in the first eight days"),
        (moved, "observed"),
        (weak, "less than yellow"),
        (back, "an end from"),
        (endless, "cleared after 12 points"),
        (uncleared, "cleared after 12 points"),
        (unfinished, "final when it has an end"),
    ],
)
def test_a_planted_fault_is_found(
    change: Callable[[list[dict[str, Any]]], None], expected: str
) -> None:
    values = some_series(random.Random(0))
    flags = flags_of(values)
    change(next(iter(flags.values())))
    assert expected in "\n".join(faults(values, flags))


def test_two_flags_at_a_time_are_found() -> None:
    values = some_series(random.Random(0))
    flags = flags_of(values)
    (_, detector, start), words = next(iter(flags.items()))
    at = next(minute for minute in values if minute > start)
    words[-1]["ended_at"] = at + MINUTE
    other = next(name for name in DETECTORS if name != detector)
    word = {**words[0], "detector": other, "started_at": at, "observed": values[at], "score": 9.0}
    flags["m", other, at] = [{**word, "ended_at": at + MINUTE, "is_final": True}]
    assert "one flag at a time" in "\n".join(faults(values, flags))
    flags["m", other, at][0]["score"] = 0.5
    flags["m", detector, start][-1]["ended_at"] = at
    assert "quiet for a day" in "\n".join(faults(values, flags))


def test_words_of_series_that_are_not_ours_are_left_alone() -> None:
    values = some_series(random.Random(0))
    flags = flags_of(values)
    word = {**next(iter(flags.values()))[0], "series": "gone", "detector": "threshold:gone"}
    flags["gone", "threshold:gone", START] = [word]
    assert faults(values, flags) == []
