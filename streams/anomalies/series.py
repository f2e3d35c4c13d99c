"""The detector of one series: a point in, a verdict out.

Upstream: points `(timestamp, value)` of a metric or a file. Downstream: the table `anomalies`,
`streamgauge anomalies detect`.

    point -> absence -> forecast -> evidence -> tail (x 5) -> incident -> verdict
                level ----------------------------------------> breach --^

The score of a point is the rarest of its five figures, as a power of ten of weeks: 0 is what
chance alone brings about once a week, 1 once in ten weeks, below 0 what is commoner.

Invariants: a verdict uses this point and those before it, so the verdicts of a beginning are the
beginning of the verdicts; a point that is not later than the last is left out and said to be;
work and memory a point are bounded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from streamgauge.streams.anomalies.absence import Absence
from streamgauge.streams.anomalies.evidence import DETECTORS, Evidence
from streamgauge.streams.anomalies.flag import Flag
from streamgauge.streams.anomalies.forecast import DAY, NEAR, USUAL, WEEK, Forecast
from streamgauge.streams.anomalies.incident import Incident
from streamgauge.streams.anomalies.levels import Breach, Level
from streamgauge.streams.anomalies.scale import Scale
from streamgauge.streams.anomalies.tail import Tail

HIGHEST = 12.0
KNOWN = 8 * DAY
"""Nothing is red before a week has been seen whole: the first weekend is no alarm."""


@dataclass(frozen=True, kw_only=True)
class Rates:
    """False alarms a week that each of the five figures may give by chance."""

    yellow: float = 0.4
    red: float = 0.001


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is said of a point; `changes` are flags opened, worse or cleared by it."""

    score: float = 0.0
    expected: float | None = None
    standing: tuple[Flag, ...] = ()
    changes: tuple[Flag, ...] = ()
    skipped: str | None = None


@dataclass
class Series:
    """All that is remembered of a series."""

    began: float = 0.0
    absence: Absence = field(default_factory=Absence)
    forecast: Forecast | None = None
    evidence: Evidence | None = None
    tails: list[Tail] = field(default_factory=lambda: [Tail() for _ in DETECTORS])
    incident: Incident = field(default_factory=Incident)
    breach: Breach = field(default_factory=Breach)

    def judge(
        self,
        timestamp: float,
        value: float,
        rates: Rates,
        level: Level | None = None,
    ) -> Verdict:
        """The next point."""
        last = self.absence.last
        if last is not None and timestamp <= last:
            return self._verdict([], skipped="duplicate" if timestamp == last else "out of order")
        if last is None:
            self.began = timestamp
        changes = self.absence.came(timestamp)
        if level is not None:
            changes += self.breach.judge(level, timestamp, value)
        if self.forecast is None or self.evidence is None:
            if (step := self.absence.step) is not None:
                self.forecast = Forecast.begun(step)
                self.evidence = Evidence(near_scale=Scale(step=step), usual_scale=Scale(step=step))
            return self._verdict(changes)
        said = self.forecast.predictions(timestamp)
        if not said:
            self.forecast.add(timestamp, value, said)
            return self._verdict(changes)
        near, usual = self.forecast.best(NEAR, said), self.forecast.best(USUAL, said)
        self.forecast.add(timestamp, value, said)
        figures = self.evidence.add(timestamp, value, near, usual)
        chances = [tail.chance(figure) for tail, figure in zip(self.tails, figures, strict=True)]
        for tail, figure in zip(self.tails, figures, strict=True):
            tail.add(figure)
        rarest = min(range(len(chances)), key=chances.__getitem__)
        score = _score(chances[rarest], self.forecast.step)
        candidate = Flag(
            detector=DETECTORS[rarest],
            severity="yellow",
            start=timestamp,
            expected=usual if DETECTORS[rarest] in ("change", "shift") else near,
            observed=value,
            score=score,
        )
        yellow, red = -math.log10(rates.yellow), -math.log10(rates.red)
        if timestamp - self.began < KNOWN:
            red = math.inf
        changes += self.incident.judge(candidate, yellow, red)
        return self._verdict(changes, score=score, expected=candidate.expected)

    def wait(self, now: float) -> Verdict:
        """Event time has come to `now` without a point: an empty cell, or a tick of the stream."""
        return self._verdict(self.absence.wait(now), skipped="empty")

    @property
    def standing(self) -> tuple[Flag, ...]:
        """The flags that stand."""
        flags = (self.absence.flag, self.breach.flag, self.incident.flag)
        return tuple(flag for flag in flags if flag is not None)

    def _verdict(
        self,
        changes: list[Flag],
        *,
        score: float = 0.0,
        expected: float | None = None,
        skipped: str | None = None,
    ) -> Verdict:
        return Verdict(
            score=score,
            expected=expected,
            standing=self.standing,
            changes=tuple(changes),
            skipped=skipped,
        )


def _score(chance: float, step: float) -> float:
    """A chance a point as the power of ten of weeks in which it comes about once."""
    weekly = chance * WEEK / step
    return min(-math.log10(weekly), HIGHEST) if weekly > 0 else HIGHEST
