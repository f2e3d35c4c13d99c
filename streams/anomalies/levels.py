r"""Levels: thresholds with a duration, as data, and the detector that holds a series to one.

Upstream: points of the signal that a level names. Downstream: `flag.py`.

       value          |###########|###### beyond the limit
    limit ------------/           |      \-----------
                    since    opens after `seconds`  clears with the first value within

Invariants: the flag begins when the value went beyond, not when it had lasted long enough; yellow
becomes red in the same flag, and a flag once red stays so; a gap in the data does not end a breach.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from streamgauge.schemas import alerts as schemas
from streamgauge.schemas.alerts import Alert
from streamgauge.streams.anomalies.flag import Flag, Severity


@dataclass(frozen=True, kw_only=True)
class Limit:
    """Beyond `value` for `seconds`."""

    value: float
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Level:
    """What a signal must not be above, or below."""

    unit: str
    side: Literal["above", "below"] = "above"
    scale: float = 1.0
    """A series' values times this are in the unit."""
    yellow: Limit | None = None
    red: Limit | None = None

    def beyond(self, limit: Limit | None, value: float) -> bool:
        """Is the value on the wrong side of the limit?"""
        if limit is None:
            return False
        return value > limit.value if self.side == "above" else value < limit.value


def level_of(alert: Alert) -> Level:
    """Of an alert's definition."""

    def limit(given: schemas.Limit | None) -> Limit | None:
        return None if given is None else Limit(value=given.value, seconds=60 * given.minutes)

    return Level(
        unit=alert.unit,
        side=alert.side,
        scale=alert.scale,
        yellow=limit(alert.yellow),
        red=limit(alert.red),
    )


PRESETS: Mapping[str, Mapping[str, Level]] = {
    name: {alert.name: level_of(alert) for alert in alerts}
    for name, alerts in schemas.presets().items()
}


@dataclass
class Breach:
    """Since when a series is beyond its level, and the flag that stands."""

    yellow_since: float | None = None
    red_since: float | None = None
    flag: Flag | None = None

    def judge(self, level: Level, now: float, value: float) -> list[Flag]:
        """What this point changes."""
        self.yellow_since = _since(self.yellow_since, now, level.beyond(level.yellow, value))
        self.red_since = _since(self.red_since, now, level.beyond(level.red, value))
        limits: tuple[tuple[Severity, Limit | None, float | None], ...] = (
            ("red", level.red, self.red_since),
            ("yellow", level.yellow, self.yellow_since),
        )
        found = next(
            (
                (severity, limit, since)
                for severity, limit, since in limits
                if limit is not None and since is not None and now - since >= limit.seconds
            ),
            None,
        )
        standing = self.flag
        if found is None:
            within = self.yellow_since is None and self.red_since is None
            if standing is None or not within:
                return []
            self.flag = None
            return [replace(standing, end=now)]
        severity, limit, since = found
        if standing is not None and (standing.severity == "red" or severity == "yellow"):
            return []
        self.flag = Flag(
            detector="threshold",
            severity=severity,
            start=standing.start if standing else since,
            expected=limit.value,
            observed=value,
            score=_times(level, limit, value),
        )
        return [self.flag]


def _times(level: Level, limit: Limit, value: float) -> float:
    """How many times the limit; a limit of zero is taken for a small one."""
    if level.side == "above":
        return value / (limit.value or 1e-9)
    return limit.value / max(value, 1e-9)


def _since(since: float | None, now: float, beyond: bool) -> float | None:
    return (now if since is None else since) if beyond else None
