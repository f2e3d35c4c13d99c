"""A watched series: minutes in, words about flags out; and how its memory survives.

    points ──> gaps filled ──> detectors (`series.py`), levels (`levels.py`) ──> words

Upstream: `board.py`, minute by minute. Downstream: `tasks.py` writes the words and the memory.

A minute without a value is a zero where things are counted (`zeros`), else the detectors wait;
after a day of that the series is dormant until the next value.

The memory is kept as bytes of some minute ago and the points since then: going back, and a
snapshot, cost nothing, and the bytes are made anew only now and then.

Invariants: what is said follows from the points in order of time, however they are batched; the
words about one flag are counted, and none is said twice.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from streamgauge.streams.anomalies.flag import Flag
from streamgauge.streams.anomalies.levels import Breach, Level
from streamgauge.streams.anomalies.series import Rates, Series
from streamgauge.streams.anomalies.snapshot import LATER, restored, saved

MINUTE_MS = 60_000
DORMANT = 1440
"""Minutes without a value after which a series is left alone."""

Point = tuple[int, float]
"""Start of the minute, in ms, and the value."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a series is watched."""

    metric: str
    dimensions: str
    zeros: bool
    """A minute without a value is a zero."""
    detected: bool
    """The detectors watch it; else only its levels do."""
    levels: Mapping[str, Level]
    rates: Rates = field(default_factory=Rates)

    @property
    def name(self) -> str:
        """Of the series."""
        return name_of(self.metric, self.dimensions)


def name_of(metric: str, dimensions: str) -> str:
    """Of a metric's series."""
    return metric if dimensions == "{}" else metric + dimensions


@dataclass
class Held:
    """A level that the series is held to, and whether it is beyond."""

    name: str
    level: str
    since: int = field(default=0, metadata={LATER: True})
    """The first minute; 0 where that was not kept."""
    breach: Breach = field(default_factory=Breach)


@dataclass
class Memory:
    """All that is remembered of a series."""

    next: int = 0
    """The minute that comes next; 0 before the first."""
    idle: int = 0
    """Minutes since the last value."""
    series: Series = field(default_factory=Series)
    held: list[Held] = field(default_factory=list)
    words: dict[str, int] = field(default_factory=dict)
    """How many there were about each flag that stands."""

    def packed(self) -> bytes:
        """As bytes."""
        return zlib.compress(json.dumps(saved(self), separators=(",", ":")).encode(), 1)

    @staticmethod
    def of(packed: bytes) -> Memory:
        """What `packed` gave; a new one for nothing."""
        return restored(Memory, json.loads(zlib.decompress(packed))) if packed else Memory()

    def feed(self, minute: int, value: float, settings: Settings) -> list[dict[str, Any]]:
        """The value of a minute; those left out before it had none."""
        if self.next and minute < self.next:
            return []
        words = self.pass_until(minute, settings) if self.next else []
        words += self._judge(minute, value, settings)
        self.next, self.idle = minute + MINUTE_MS, 0
        return words

    def pass_until(self, minute: int, settings: Settings) -> list[dict[str, Any]]:
        """Minutes before this one, without a value."""
        words = []
        while self.next < minute and self.idle < DORMANT:
            if settings.zeros:
                words += self._judge(self.next, 0.0, settings)
            elif settings.detected:
                changes = self.series.wait(self.next / 1000).changes
                words += [self._word(self.next, flag, settings) for flag in changes]
            self.next += MINUTE_MS
            self.idle += 1
        self.next = max(self.next, minute)
        return words

    def _judge(self, minute: int, value: float, settings: Settings) -> list[dict[str, Any]]:
        now = minute / 1000
        changes = self._released(now, settings)
        if settings.detected:
            changes += self.series.judge(now, value, settings.rates).changes
        for held in self.held:
            level = settings.levels[held.name]
            for flag in held.breach.judge(level, now, value * level.scale):
                changes.append(replace(flag, detector=f"threshold:{held.name}"))
        return [self._word(minute, flag, settings) for flag in changes]

    def _released(self, now: float, settings: Settings) -> list[Flag]:
        """Hold it to the levels that there are; the flags of others end."""
        wanted = {name: json.dumps(asdict(level)) for name, level in settings.levels.items()}
        ended = []
        kept = []
        for held in self.held:
            if wanted.get(held.name) == held.level:
                kept.append(held)
            elif held.breach.flag is not None:
                flag = replace(held.breach.flag, detector=f"threshold:{held.name}")
                ended.append(replace(flag, end=now))
        known = {held.name for held in kept}
        since = round(now * 1000)
        kept += [Held(n, of, since) for n, of in wanted.items() if n not in known]
        self.held = kept
        if not settings.detected and (standing := self.series.standing):
            ended += [replace(flag, end=now) for flag in standing]
            self.series = Series()
        return ended

    def end(self, settings: Settings) -> list[dict[str, Any]]:
        """The series is watched no more: its flags end."""
        gone = replace(settings, levels={}, detected=False)
        changes = self._released(self.next / 1000, gone)
        return [self._word(self.next, flag, settings) for flag in changes]

    def _word(self, minute: int, flag: Flag, settings: Settings) -> dict[str, Any]:
        started = round(flag.start * 1000)
        key = f"{settings.name}|{flag.detector}|{started}"
        version = self.words.get(key, 0) + 1
        if flag.end is None:
            self.words[key] = version
        else:
            self.words.pop(key, None)
        return {
            "anomaly_id": id_of(key),
            "series": settings.name,
            "metric": settings.metric,
            "dimensions": settings.dimensions,
            "user_id": None,
            "detector": flag.detector,
            "severity": flag.severity,
            "started_at": started,
            "ended_at": None if flag.end is None else round(flag.end * 1000),
            "expected": flag.expected,
            "observed": flag.observed,
            "score": flag.score,
            "points": max(1, (minute - started) // MINUTE_MS + (flag.end is None)),
            "version": version,
            "is_final": flag.end is not None,
        }


def id_of(key: str) -> str:
    """A short name of an anomaly, from `series|detector|started_at`."""
    return hashlib.sha256(key.encode()).hexdigest()[:12]


@dataclass
class Watched:
    """A series' memory, kept so that it can go back."""

    settings: Settings
    memory: Memory = field(default_factory=Memory)
    kept: bytes = b""
    """The memory as it was saved last."""
    kept_next: int = 0
    """Its next minute; before anything was saved, the first minute."""
    since: tuple[Point, ...] = ()
    """Points since then, committed."""
    until: int = 0
    """The next minute, committed."""
    points: list[Point] = field(default_factory=list)
    """Points that are not committed."""
    fresh: bytes = b""
    """Saved, but not committed."""

    def feed(self, minute: int, value: float) -> list[dict[str, Any]]:
        """A value; the words about it."""
        if minute < self.memory.next:
            return []
        if not self.kept_next:
            self.kept_next = minute
        self.points.append((minute, value))
        return self.memory.feed(minute, value, self.settings)

    def advance(self, minute: int) -> list[dict[str, Any]]:
        """No more values before this minute."""
        return self.memory.pass_until(minute, self.settings) if self.memory.next else []

    def save(self) -> bytes:
        """The memory as bytes, from now on."""
        self.fresh = self.memory.packed()
        return self.fresh

    def commit(self) -> None:
        """What was fed holds."""
        if self.fresh:
            self.kept, self.kept_next, self.since = self.fresh, self.memory.next, ()
        elif self.points:
            self.since = (*self.since, *self.points)
        self.until, self.points, self.fresh = self.memory.next, [], b""

    @property
    def changed(self) -> bool:
        """Whether there is something to go back from."""
        return bool(self.fresh or self.points) or self.memory.next != self.until

    def abort(self) -> None:
        """Back to the last commit."""
        if not self.changed:
            return
        self.points, self.fresh = [], b""
        self.memory = self._remembered(self.since, self.until)

    def _remembered(self, points: Iterable[Point], until: int) -> Memory:
        memory = Memory.of(self.kept)
        for minute, value in points:
            memory.feed(minute, value, self.settings)
        if memory.next:
            memory.pass_until(until, self.settings)
        return memory

    @staticmethod
    def of(
        settings: Settings, kept: bytes, kept_next: int, since: Iterable[Point], until: int
    ) -> Watched:
        """As it was committed."""
        watched = Watched(settings, kept=kept, kept_next=kept_next, since=tuple(since), until=until)
        watched.memory = watched._remembered(watched.since, until)
        return watched
