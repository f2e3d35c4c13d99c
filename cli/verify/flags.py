"""Flags whose outcome is plain arithmetic on a series: alert levels, and missing data, once more.

Upstream: minutes of a series, which were proved against the raw log. Downstream:
`flag_targets.py`, which sets them beside the topic `anomalies`. What they mean is written down here
a second time, from docs/anomalies.md. Invariant: it shares no code with the worker; what is said
follows from the minutes in order of time.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median

from streamgauge.schemas.alerts import Alert, Limit

MINUTE = 60_000
DORMANT = 1440
"""Minutes without a value after which a series is left alone."""
STEPS, RED_STEPS, INTERVALS, FEWEST, GAPS = 5, 60, 31, 12, 20


@dataclass(frozen=True, kw_only=True)
class Word:
    """What is said of a flag: that it opened, got worse or cleared."""

    due: int
    """When the minutes before this time are done, it has been said."""
    severity: str
    started_at: int
    ended_at: int | None = None
    expected: float | None
    observed: float | None
    score: float

    def __str__(self) -> str:
        until = "" if self.ended_at is None else f" until {self.ended_at}"
        return f"{self.severity}{until}, {self.observed} for {self.expected}, score {self.score}"


Told = list[list[Word]]
"""Flags in order of time, each with its words."""


def filled(
    values: Mapping[int, float], end: int, *, zeros: bool
) -> Iterator[tuple[int, float | None]]:
    """Every minute before `end`: where things are counted, one without a value is a zero."""
    for minute, following in pairwise([*sorted(values), end]):
        yield minute, values[minute]
        gap_end = min(following, minute + (DORMANT + 1) * MINUTE)
        for gap in range(minute + MINUTE, gap_end, MINUTE):
            yield gap, 0.0 if zeros else None


def of_level(
    alert: Alert, points: Iterable[tuple[int, float | None]], *, clean: bool
) -> tuple[float, Told]:
    """Flags of an alert, and after what time they are known.

    Unless `clean`, the series may be beyond its limits from before; then its state is known
    with the first value within.
    """
    limits = {"red": alert.red, "yellow": alert.yellow}
    known = -math.inf if clean else math.inf
    since: dict[str, int] = {}
    told: Told = []
    for minute, point in points:
        if point is None:
            continue
        value = point * alert.scale
        for severity, limit in limits.items():
            if limit is not None and _beyond(alert, limit, value):
                since.setdefault(severity, minute)
            else:
                since.pop(severity, None)
        if known == math.inf:
            known = math.inf if since else minute
            continue
        standing = told[-1][-1] if told and told[-1][-1].ended_at is None else None
        if standing is not None and not since:
            told[-1].append(_cleared(standing, minute))
            continue
        for severity, limit in limits.items():
            begun = since.get(severity)
            if limit is None or begun is None or minute - begun < limit.minutes * MINUTE:
                continue
            if standing is None or (severity == "red" and standing.severity == "yellow"):
                word = Word(
                    due=minute + MINUTE,
                    severity=severity,
                    started_at=begun if standing is None else standing.started_at,
                    expected=limit.value,
                    observed=value,
                    score=_times(alert, limit, value),
                )
                if standing is None:
                    told.append([])
                told[-1].append(word)
            break
    return known, told


def of_silence(points: Iterable[tuple[int, float | None]]) -> Told:
    """Flags of missing data, of a series from its first minute."""
    last: int | None = None
    intervals: list[int] = []
    gaps: list[int] = []
    told: Told = []
    for minute, value in points:
        standing = told[-1][-1] if told and told[-1][-1].ended_at is None else None
        known = intervals[-INTERVALS:]
        step = median(known) if len(known) >= FEWEST else None
        if last is not None and step is not None:
            silent = (minute - last) / step
            limit = max(STEPS, 2 * max(gaps[-GAPS:], default=0) / step)
            is_red = silent > max(RED_STEPS, limit)
            is_worse = standing is None or (is_red and standing.severity == "yellow")
            if silent > limit and is_worse:
                if standing is None:
                    told.append([])
                standing = Word(
                    due=minute + MINUTE,
                    severity="red" if is_red else "yellow",
                    started_at=round(last + step),
                    expected=step / 1000,
                    observed=(minute - last) / 1000,
                    score=silent / limit,
                )
                told[-1].append(standing)
        if value is None:
            continue
        if standing is not None:
            told[-1].append(_cleared(standing, minute))
        if last is not None:
            if step is not None and minute - last > 1.5 * step:
                gaps.append(minute - last)
            intervals.append(minute - last)
        last = minute
    return told


def _cleared(standing: Word, minute: int) -> Word:
    return replace(standing, due=minute + MINUTE, ended_at=minute)


def _beyond(alert: Alert, limit: Limit, value: float) -> bool:
    return value > limit.value if alert.side == "above" else value < limit.value


def _times(alert: Alert, limit: Limit, value: float) -> float:
    """How many times the limit."""
    if alert.side == "above":
        return value / (limit.value or 1e-9)
    return limit.value / max(value, 1e-9)
