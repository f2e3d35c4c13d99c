"""Flags computed again, beside the worker's own logic, series by series and user by user."""

from __future__ import annotations

import random
from typing import Any

import pytest

from streamgauge.cli.verify import flags, user_flags
from streamgauge.cli.verify.flags import MINUTE, Told, filled, of_level, of_silence
from streamgauge.cli.verify.user_flags import UserFlags
from streamgauge.schemas.alerts import Alert, Limit
from streamgauge.streams.anomalies import users as worker
from streamgauge.streams.anomalies.levels import level_of
from streamgauge.streams.anomalies.users import Judged
from streamgauge.streams.anomalies.watched import Memory, Settings

START = 1_760_000_400_000
DETECTOR = "threshold:a"
ALERTS = (
    Alert(name="a", yellow=Limit(value=2), red=Limit(value=4, minutes=1)),
    Alert(name="a", yellow=Limit(value=2, minutes=3), red=Limit(value=2, minutes=5), scale=2),
    Alert(name="a", side="below", yellow=Limit(value=2, minutes=2)),
    Alert(name="a", red=Limit(value=0)),
)


def words_of(told: Told, detector: str) -> list[tuple[Any, ...]]:
    return [
        (detector, word.severity, word.started_at, word.ended_at, pytest.approx(word.observed),
         word.expected, pytest.approx(word.score), number)
        for words in told for number, word in enumerate(words, 1)
    ]  # fmt: skip


def said(words: list[dict[str, Any]], *detectors: str) -> list[tuple[Any, ...]]:
    fields = ("severity", "started_at", "ended_at", "observed", "expected", "score", "version")
    return [
        (word["detector"], *(word[name] for name in fields))
        for word in words
        if word["detector"] in detectors
    ]


def some_series(rng: random.Random, size: int, silence: int) -> dict[int, float]:
    """Minutes with gaps, now and then a long one."""
    values, minute = {}, START
    for _ in range(size):
        values[minute] = float(rng.choice([0, 1, 1, 2, 3, 3, 5]))
        gap = rng.choice([1, 1, 1, 1, 1, 2, 3, silence if rng.random() < 0.06 else 1])
        minute += gap * MINUTE
    return values


@pytest.mark.parametrize("zeros", [True, False])
@pytest.mark.parametrize("seed", range(12))
def test_levels_and_silence_are_the_workers(seed: int, zeros: bool) -> None:
    rng = random.Random(seed)
    alert = ALERTS[seed % len(ALERTS)]
    values = some_series(rng, 120, [7, 40, 80, 1_500][seed // 3])
    settings = Settings(
        metric="m", dimensions="{}", zeros=zeros, detected=True, levels={"a": level_of(alert)}
    )
    memory = Memory()
    words = [w for minute, value in values.items() for w in memory.feed(minute, value, settings)]
    end = max(values) + 200 * MINUTE
    words += memory.pass_until(end, settings)
    points = list(filled(values, end, zeros=zeros))
    known, told = of_level(alert, points, clean=True)
    assert known < 0
    assert words_of(told, DETECTOR) == said(words, DETECTOR)
    assert words_of(of_silence(points), "missing") == said(words, "missing")
    assert words or zeros
    # Of later minutes alone, what begins after the first value within is the same.
    known, later = of_level(alert, points[40:], clean=False)
    assert words_of(later, DETECTOR) == [
        word for word in words_of(told, DETECTOR) if word[2] > known
    ]


def test_a_flag_that_was_beyond_before_is_not_known() -> None:
    points: list[tuple[int, float | None]] = [
        (START + at * MINUTE, value) for at, value in enumerate([3.0, None, 5.0, 1.0, 5.0])
    ]
    known, told = of_level(ALERTS[0], points, clean=False)
    assert known == START + 3 * MINUTE
    assert [[word.started_at for word in words] for words in told] == [[START + 4 * MINUTE]]


def some_users(rng: random.Random) -> list[dict[str, Any]]:
    """People, a clock, one who goes wild, one whose player is wrong; in order of time, nearly."""
    events: list[dict[str, Any]] = []

    def add(user: str, minute: int, within: float, **fields: Any) -> None:
        time = START + minute * MINUTE + int(within)
        events.append({"timestamp": time, "user_id": user, "consent_analytics": None, **fields})

    period = rng.choice([3_000, 4_000, 6_500])
    for minute in range(90):
        for user in ("ann", "bob"):
            for _ in range(rng.choice([0, 6, 8, 9])):
                add(user, minute, rng.uniform(0, MINUTE))
        wild = rng.choice([0, 8, 8, 8, 60, 130, 700 if rng.random() < 0.2 else 200])
        for _ in range(wild):
            add("wild", minute, rng.uniform(0, MINUTE), consent_analytics=rng.choice([True, None]))
        if rng.random() < 0.1:
            add("odd", minute, 5, duration_ms=rng.choice([-1, 10]), position_ms=rng.choice([5, -3]))
    for tick in range(0, 30 * MINUTE, period):
        add("clock", 5, tick + rng.uniform(0, 30))
    for tick in range(0, 10 * MINUTE, 5_000):
        add("clock", 60, tick + rng.uniform(0, 30), duration_ms=10, position_ms=90_000)
    held_back = {"ann": 50_000, "wild": 140_000}
    events.sort(
        key=lambda e: e["timestamp"] + rng.choice([0, 0, 0, held_back.get(e["user_id"], 0)])
    )
    return events


def judged(events: list[dict[str, Any]], end: int) -> list[dict[str, Any]]:
    """The words that the worker's logic has about them, all in one."""
    minutes: dict[tuple[int, str], list[tuple[int, bool]]] = {}
    watermark = 0
    for event in events:
        time, duration = event["timestamp"], event.get("duration_ms")
        start = time // MINUTE * MINUTE
        if watermark < start + 2 * MINUTE:
            at = event.get("position_ms", 0)
            wrong = duration is not None and (duration < 0 or at > duration + 60_000)
            one = (time - start, wrong or at < 0)
            minutes.setdefault((start, event["user_id"]), []).append(one)
        watermark = max(watermark, time)
    found = []
    for (start, user), seen in sorted(minutes.items()):
        times, count = [time for time, _ in seen], len(seen)
        mean = sum(times) / count
        spread = (max(times) - min(times)) ** 2 * (count + 1) / (12 * max(count - 1, 1))
        even = sum((time - mean) ** 2 for time in times) / count / spread if spread else 0.0
        bad = sum(wrong for _, wrong in seen)
        if count >= 5 or bad:
            minute = worker.Minute(start, count, even, bad, min(times), max(times))
            found.append(((0, user), minute))
    _, told = worker.judge(Judged(), found, {0: end})
    return [each.word for each in told if each.word is not None]


@pytest.mark.parametrize("seed", range(6))
def test_users_are_judged_as_the_worker_judges_them(seed: int) -> None:
    events = some_users(random.Random(seed))
    end = START + 200 * MINUTE
    fold = UserFlags(lateness_ms=3_600_000, consent_denied=False)
    for event in events:
        fold.event(0, 0, event)
    fold.tick(0, end + MINUTE)
    words = judged(events, end)
    expected = {
        (word["series"], *told) for word in words for told in said([word], word["detector"])
    }
    found = {
        (series, detector, w.severity, w.started_at, w.ended_at, w.observed, w.expected, w.score, n)
        for (series, detector, _), told in fold.told().items()
        for n, w in enumerate(told, 1)
    }
    assert found == expected
    assert {word["detector"] for word in words} == {"cap", "burst", "bot", "impossible"}
    assert {word["severity"] for word in words} == {"yellow", "red"}


def test_who_is_in_two_partitions_is_left_alone() -> None:
    fold = UserFlags(lateness_ms=3_600_000, consent_denied=False)
    for partition in range(2):
        for number in range(130):
            event = {"timestamp": START + number, "user_id": "u", "consent_analytics": None}
            fold.event(partition, number, event)
        fold.tick(partition, START + 9 * MINUTE)
    assert fold.told() == {}
    assert not fold.is_known("u", START)
    assert fold.is_known("nobody", START)
    assert not fold.is_known("nobody", START + 9 * MINUTE)


def test_constants_are_those_of_the_docs() -> None:
    """They are written down twice; the worker's are what the docs say."""
    for name in ("BUSY", "CAP", "CAP_RED", "BURST", "BURST_TIMES", "BURST_RED", "BURST_KNOWN",
                 "COMB", "COMB_EVENTS", "COMB_MINUTES", "COMB_RED", "BEAT", "BEAT_MINUTES",
                 "BEAT_ACROSS", "QUIET"):  # fmt: skip
        assert getattr(user_flags, name) == getattr(worker, name)
    assert user_flags.REMEMBERED == worker.REMEMBERED_MS
    assert flags.DORMANT == 1440
