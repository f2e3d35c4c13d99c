"""Flags of users once more, one event at a time: caps, bursts, bots, impossible values.

Upstream: accepted events and ticks, partition by partition in order of offsets. Downstream:
`flag_targets.py`. Only prompt events of who may be identified are looked at, minute by minute, as
docs/anomalies.md says. Invariant: it shares no code with the worker; minutes that are not done yet
say nothing.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from streamgauge.cli.verify.flags import MINUTE, Told, Word
from streamgauge.schemas.records import Control
from streamgauge.schemas.watched import SETTLE_MS

DAY = 86_400_000
BUSY, REMEMBERED, QUIET = 5, 50 * MINUTE, 3
CAP, CAP_RED = 120, 600
BURST, BURST_TIMES, BURST_RED, BURST_KNOWN = 30, 6.0, 20.0, 5
COMB, COMB_EVENTS, COMB_MINUTES, COMB_RED = 0.03, 8, 5, 15
BEAT_MINUTES, BEAT, BEAT_ACROSS = 3, 0.03, 0.2


@dataclass
class _Minute:
    """What a user does in a minute; times are ms from its start."""

    times: list[int] = field(default_factory=list)
    impossible: int = 0


class _Busy(NamedTuple):
    """A minute that is done, of five events or more."""

    start: int
    events: int
    is_comb: bool
    first: int
    last: int

    @property
    def period(self) -> float:
        return (self.last - self.first) / max(1, self.events - 1)


class _Held(NamedTuple):
    """A detector's condition held in a minute."""

    minute: int
    severity: str
    expected: float | None
    observed: float
    score: float


@dataclass
class _Partition:
    watermark: int | None = None
    done: int = 0
    """The end of the last minute that is done."""
    open: defaultdict[int, defaultdict[str, _Minute]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(_Minute))
    )
    busy: defaultdict[str, list[_Busy]] = field(default_factory=lambda: defaultdict(list))
    held: defaultdict[tuple[str, str], list[_Held]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """By user and detector, in order of time."""


class UserFlags:
    """The fold; feed it in order, then ask `told`."""

    def __init__(self, *, lateness_ms: int, consent_denied: bool) -> None:
        self._settle = min(SETTLE_MS, lateness_ms)
        self._remembered = min(REMEMBERED, max(0, lateness_ms - self._settle - 2 * MINUTE))
        self._consent_denied = consent_denied
        self._partitions: defaultdict[int, _Partition] = defaultdict(_Partition)
        self._home: dict[str, int | None] = {}
        """The partition of each user; None for who is in several."""

    def control(self, partition: int, offset: int, control: Control) -> None:
        """No definition changes what is flagged."""

    def tick(self, partition: int, timestamp: int) -> None:
        """Time passes."""
        of = self._partitions[partition]
        if of.watermark is not None and timestamp <= of.watermark:
            return
        of.watermark = timestamp
        done = (timestamp - self._settle) // MINUTE * MINUTE
        if done <= of.done:
            return
        of.done = done
        for start in sorted(start for start in of.open if start + MINUTE <= done):
            for user, minute in of.open.pop(start).items():
                self._judge(of, user, start, minute)

    def event(self, partition: int, offset: int, event: Mapping[str, Any]) -> None:
        """An accepted one."""
        of, time = self._partitions[partition], event["timestamp"]
        start = time - time % MINUTE
        consent = event.get("consent_analytics")
        is_denied = self._consent_denied if consent is None else not consent
        is_prompt = of.watermark is None or of.watermark < start + MINUTE + self._settle
        if is_prompt and not is_denied:
            user = event.get("user_id") or event["anonymous_id"]
            if self._home.setdefault(user, partition) != partition:
                self._home[user] = None
            minute = of.open[start][user]
            minute.times.append(time - start)
            minute.impossible += _is_impossible(event)
        self.tick(partition, time)

    def is_alone(self, user: str) -> bool:
        """Whether the user is in one partition at most: flags are counted by partition."""
        return self._home.get(user, -1) is not None

    def is_known(self, user: str, started_at: int) -> bool:
        """Whether a flag of the user that begins there is among those told, if it is right."""
        ends = {partition: of.done for partition, of in self._partitions.items()}
        home = self._home.get(user, -1)
        if home is None:
            return False
        return started_at + MINUTE <= ends.get(home, min(ends.values(), default=0))

    def told(self) -> dict[tuple[str, str, int], list[Word]]:
        """Words by series, detector and start; of who is in one partition alone."""
        return {
            (f"user {user}", detector, words[0].started_at): words
            for of in self._partitions.values()
            for (user, detector), held in of.held.items()
            if self.is_alone(user)
            for words in _flags(held, of.done)
        }

    def _judge(self, of: _Partition, user: str, start: int, minute: _Minute) -> None:
        is_busy = len(minute.times) >= BUSY
        if not is_busy and not minute.impossible:
            return
        known = [one for one in of.busy[user] if one.start >= start - self._remembered]
        now = _done(start, minute.times)
        for detector, held in _conditions(now, known, minute.impossible):
            of.held[user, detector].append(held)
        if is_busy:
            known.append(now)
        of.busy[user] = known


def _is_impossible(event: Mapping[str, Any]) -> bool:
    duration, position = event.get("duration_ms"), event.get("position_ms")
    if duration is not None and not 0 <= duration <= DAY:
        return True
    if position is None:
        return False
    return position < 0 or (duration is not None and position > duration + MINUTE)


def _done(start: int, times: list[int]) -> _Busy:
    count, first, last = len(times), min(times), max(times)
    total = sum(times)
    variance = (sum(time * time for time in times) - total * total / count) / count
    comb = (last - first) ** 2 * (count + 1) / (12 * max(count - 1, 1))
    is_comb = comb > 0 and count >= COMB_EVENTS and abs(variance / comb - 1) <= COMB
    return _Busy(start, count, is_comb, first, last)


def _conditions(now: _Busy, known: list[_Busy], impossible: int) -> Iterator[tuple[str, _Held]]:
    """What this minute is found to be, beside the user's busy minutes before it."""
    start, count = now.start, now.events
    if count >= CAP:
        severity = "red" if count >= CAP_RED else "yellow"
        yield "cap", _Held(start, severity, CAP, count, count / CAP)
    if count >= BURST and len(known) >= BURST_KNOWN:
        usual = sum(one.events for one in known) / len(known)
        if count >= BURST_TIMES * usual:
            severity = "red" if count / usual >= BURST_RED else "yellow"
            yield "burst", _Held(start, severity, usual, count, count / usual)
    combs, beats = _regular([*known, now])
    if combs >= COMB_MINUTES or beats >= BEAT_MINUTES:
        severity = "red" if combs >= COMB_RED else "yellow"
        yield "bot", _Held(start, severity, None, count, combs)
    if impossible:
        yield "impossible", _Held(start, "yellow", 0, impossible, impossible)


def _regular(minutes: list[_Busy]) -> tuple[int, int]:
    """How many minutes on end, up to the last, are combs; and how many of one beat."""
    combs: list[_Busy] = []
    for one in reversed(minutes):
        if not one.is_comb or (combs and one.start + MINUTE != combs[-1].start):
            break
        combs.append(one)
    beats = 0
    for at, one in enumerate(combs):
        if at and not _goes_on(one, combs[at - 1]):
            break
        beats += 1
    return len(combs), beats


def _goes_on(one: _Busy, following: _Busy) -> bool:
    across = MINUTE + following.first - one.last
    is_same = abs(following.period - one.period) <= BEAT * one.period
    return is_same and abs(across - one.period) <= BEAT_ACROSS * one.period


def _flags(held: list[_Held], done: int) -> Told:
    """A flag lasts until its condition has not held for three minutes."""
    told: Told = []
    last = 0
    for minute, severity, expected, observed, score in held:
        if told and minute >= last + (QUIET + 1) * MINUTE:
            told[-1].append(_cleared(told[-1][-1], last))
        standing = told[-1][-1] if told and told[-1][-1].ended_at is None else None
        if standing is None:
            told.append([])
        if standing is None or (severity == "red" and standing.severity == "yellow"):
            word = Word(
                due=minute + MINUTE,
                severity=severity,
                started_at=minute if standing is None else standing.started_at,
                expected=expected,
                observed=observed,
                score=score,
            )
            told[-1].append(word)
        last = minute
    if told and last + (QUIET + 1) * MINUTE <= done:
        told[-1].append(_cleared(told[-1][-1], last))
    return told


def _cleared(standing: Word, last: int) -> Word:
    return replace(standing, due=last + (QUIET + 1) * MINUTE, ended_at=last + MINUTE)
