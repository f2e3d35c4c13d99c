r"""Users that are not as people are: minutes of each, and what is said of them.

    events ──> open minutes of each user ──(the minute is done)──> judged ──> flags

| detector | asks |
|---|---|
| `cap` | more events a minute than anybody makes? |
| `burst` | far more than this user's own busy minutes of the last fifty? |
| `bot` | as regular as a clock, three or five minutes on end? |
| `impossible` | values that cannot be? |

Upstream: prompt events of identifiable users (`points.py` says which are prompt). Downstream:
`user_branch.py`. A minute is busy with five events or more; only busy ones are remembered. Events
are evenly spread over a minute when their variance is that of a comb over the same range: one
minute in ten of people is. Five on end say it, or three whose periods are the same and go on from
one to the next.

Invariants: what is said follows from the minutes in order of time; sums do not depend on the order
of events; a flag clears when its condition has not held for three minutes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from streamgauge.streams.anomalies.watched import id_of

MINUTE_MS = 60_000
BUSY = 5
REMEMBERED_MS = 50 * MINUTE_MS
QUIET = 3
"""Minutes without its condition, after which a flag clears."""
CAP, CAP_RED = 120, 600
BURST, BURST_TIMES, BURST_RED, BURST_KNOWN = 30, 6.0, 20.0, 5
COMB, COMB_EVENTS, COMB_MINUTES, COMB_RED = 0.03, 8, 5, 15
BEAT_MINUTES, BEAT, BEAT_ACROSS = 3, 0.03, 0.2
"""Minutes of one period: how much it may differ, and the step from one minute to the next."""

Who = tuple[int, str]
"""Source partition and user."""


class Minute(NamedTuple):
    """What a user did in a minute."""

    start: int
    events: int
    evenness: float
    """Variance of the times over that of a comb; 1 is a clock."""
    impossible: int
    first: int = 0
    """ms from the start of the minute."""
    last: int = 0

    @property
    def period(self) -> float:
        """Between two events, if they come like a clock."""
        return (self.last - self.first) / max(1, self.events - 1)


@dataclass(frozen=True, kw_only=True)
class Standing:
    """A flag that stands."""

    started_at: int
    last: int
    """The last minute in which its condition held."""
    severity: str
    expected: float | None
    observed: float
    score: float
    version: int


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What is remembered between minutes; never changed in place."""

    busy: Mapping[Who, tuple[Minute, ...]] = field(default_factory=dict)
    standing: Mapping[tuple[int, str, str], Standing] = field(default_factory=dict)
    """By source partition, user and detector."""


class Told(NamedTuple):
    """A flag after a minute: its word if there is one, and how it stands, if it does."""

    place: tuple[int, str, str]
    standing: Standing | None
    word: dict[str, Any] | None


def judge(
    judged: Judged,
    minutes: Iterable[tuple[Who, Minute]],
    done: Mapping[int, int],
    remembered_ms: int = REMEMBERED_MS,
) -> tuple[Judged, list[Told]]:
    """After these minutes, in order of time, of partitions that are done until `done`."""
    standing, told = dict(judged.standing), list[Told]()
    busy = dict(judged.busy)

    def cleared(partition: int, now: int) -> None:
        for place, flag in list(standing.items()):
            if place[0] == partition and flag.last + (QUIET + 1) * MINUTE_MS <= now:
                del standing[place]
                word = _word(place, replace(flag, version=flag.version + 1), flag.last + MINUTE_MS)
                told.append(Told(place, None, word))

    for (partition, user), minute in minutes:
        cleared(partition, minute.start)
        before = _since(busy.get((partition, user), ()), minute.start - remembered_ms)
        for detector, found in _conditions(minute, before):
            place = (partition, user, detector)
            flag, word = _raised(standing.get(place), minute, *found), None
            if (was := standing.get(place)) is None or was.version != flag.version:
                word = _word(place, flag, None)
            standing[place] = flag
            told.append(Told(place, flag, word))
        if minute.events >= BUSY:
            busy[partition, user] = (*before, minute)
    for partition, end in done.items():
        cleared(partition, end)
    # Only what a coming minute looks at; the busy minutes of others have gone by.
    kept = {
        who: minutes
        for who, minutes in busy.items()
        if minutes[-1].start >= done.get(who[0], 0) - remembered_ms
    }
    return Judged(busy=kept, standing=standing), told


def remembered(judged: Judged, minutes: Iterable[tuple[Who, Minute]]) -> Judged:
    """With minutes that were judged before a restart."""
    busy = dict(judged.busy)
    for who, minute in minutes:
        if minute.events >= BUSY:
            busy[who] = (*_since(busy.get(who, ()), minute.start - REMEMBERED_MS), minute)
    return replace(judged, busy=busy)


def _since(minutes: tuple[Minute, ...], begin: int) -> tuple[Minute, ...]:
    return tuple(minute for minute in minutes if minute.start >= begin)


Found = tuple[str, float | None, float, float]
"""Severity, expected, observed, score."""


def _conditions(minute: Minute, before: tuple[Minute, ...]) -> Iterable[tuple[str, Found]]:
    count = minute.events
    if count >= CAP:
        severity = "red" if count >= CAP_RED else "yellow"
        yield "cap", (severity, float(CAP), float(count), count / CAP)
    if count >= BURST and len(before) >= BURST_KNOWN:
        usual = sum(one.events for one in before) / len(before)
        if count >= BURST_TIMES * usual:
            times = count / usual
            severity = "red" if times >= BURST_RED else "yellow"
            yield "burst", (severity, usual, float(count), times)
    run, beats = _combed(minute, before)
    if run >= COMB_MINUTES or beats >= BEAT_MINUTES:
        severity = "red" if run >= COMB_RED else "yellow"
        yield "bot", (severity, None, float(count), float(run))
    if minute.impossible:
        bad = float(minute.impossible)
        yield "impossible", ("yellow", 0.0, bad, bad)


def _combed(minute: Minute, before: tuple[Minute, ...]) -> tuple[int, int]:
    """Minutes on end, this one the last, in which events came like a clock; and like the same."""
    run = beats = 0
    later: Minute | None = None
    for one in (minute, *reversed(before)):
        even = one.events >= COMB_EVENTS and abs(one.evenness - 1) <= COMB
        if not even or (later is not None and one.start != later.start - MINUTE_MS):
            break
        if beats == run and (later is None or _goes_on(one, later)):
            beats += 1
        run, later = run + 1, one
    return run, beats


def _goes_on(one: Minute, later: Minute) -> bool:
    """Whether the later minute keeps the beat of the one before it."""
    period, step = one.period, MINUTE_MS + later.first - one.last
    same = abs(later.period - period) <= BEAT * period
    return same and abs(step - period) <= BEAT_ACROSS * period


def _raised(
    was: Standing | None,
    minute: Minute,
    severity: str,
    expected: float | None,
    observed: float,
    score: float,
) -> Standing:
    if was is None:
        return Standing(
            started_at=minute.start,
            last=minute.start,
            severity=severity,
            expected=expected,
            observed=observed,
            score=score,
            version=1,
        )
    if severity == "red" and was.severity == "yellow":
        return replace(
            was,
            last=minute.start,
            severity=severity,
            expected=expected,
            observed=observed,
            score=score,
            version=was.version + 1,
        )
    return replace(was, last=minute.start)


def _word(place: tuple[int, str, str], flag: Standing, ended_at: int | None) -> dict[str, Any]:
    _, user, detector = place
    series = f"user {user}"
    return {
        "anomaly_id": id_of(f"{series}|{detector}|{flag.started_at}"),
        "series": series,
        "metric": None,
        "dimensions": None,
        "user_id": user,
        "detector": detector,
        "severity": flag.severity,
        "started_at": flag.started_at,
        "ended_at": ended_at,
        "expected": flag.expected,
        "observed": flag.observed,
        "score": flag.score,
        "points": (flag.last - flag.started_at) // MINUTE_MS + 1,
        "version": flag.version,
        "is_final": ended_at is not None,
    }
