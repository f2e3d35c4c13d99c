"""The flags of the watched series: those that can be computed again, and what holds of the others.

Upstream: `anomaly-points`, proved against the raw log; the last memory of each series, for since
when it is watched and held to which level. Downstream: `flag_targets.py`. Minutes of all source
partitions are added up here once more.

Invariants: a level that is another one, or was put in force later, is computed from there on only;
what begins where minutes are missing is left alone.
"""

import json
import math
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any

from streamgauge.cli.verify import anomalies, flags
from streamgauge.cli.verify.anomalies import Points
from streamgauge.cli.verify.flags import MINUTE, Word
from streamgauge.schemas.alerts import Alert, Limit
from streamgauge.schemas.metrics import Grain
from streamgauge.schemas.watched import COUNTED

MOST = 2_000
"""Series that a partition watches."""
DETECTORS = ("spike", "change", "shift", "unrest", "climb")
YELLOW, RED = -math.log10(0.4), -math.log10(0.001)
"""The scores of the stated false alarm rates."""
DAY = 86_400_000
KNOWN = 8 * DAY
"""Nothing is red before."""
LONGEST, RARER = 12, 1.0

Key = tuple[str, str, int]
"""Series, detector, start."""
Place = tuple[str, str]
"""Name of a series among the metrics, and dimensions."""
Fault = tuple[Key, str, str]
"""What was expected of a flag, and what was found."""


@dataclass(frozen=True, kw_only=True)
class Watch:
    """What is watched, by whom, and how far."""

    grains: Sequence[Grain]
    alerts: Sequence[Alert]
    detected: frozenset[str]
    """Metrics that the detectors watch; others only have levels."""
    sources: frozenset[int]
    """All partitions of the raw topic."""
    memories: Mapping[Place, bytes]
    """What was remembered last of a series, packed."""


@dataclass(kw_only=True)
class Series:
    """One series: a name among the metrics, and dimensions."""

    metric: str
    dimensions: str
    values: Mapping[int, float]
    zeros: bool
    is_detected: bool
    is_whole: bool
    """From its first minute on."""
    end: int
    """Minutes before it are done in all source partitions."""

    @property
    def name(self) -> str:
        return self.metric if self.dimensions == "{}" else self.metric + self.dimensions

    @cached_property
    def points(self) -> list[tuple[int, float | None]]:
        """Every minute from the first one."""
        return list(flags.filled(self.values, self.end, zeros=self.zeros))

    @cached_property
    def judged(self) -> dict[int, float]:
        """The minutes that detectors see."""
        return {minute: value for minute, value in self.points if value is not None}


@dataclass(kw_only=True)
class SeriesFlags:
    """All that can be said of flags of series, from points that were read after the flags."""

    told: dict[Key, list[Word]] = field(default_factory=dict)
    since: dict[tuple[str, str], float] = field(default_factory=dict)
    """By series and detector: flags that begin later are all told."""
    series: dict[str, Series] = field(default_factory=dict)

    @staticmethod
    def of(points: Points, watch: Watch) -> "SeriesFlags":
        """Computed again."""
        found = SeriesFlags()
        for series in _series(points, watch):
            found.series[series.name] = series
            packed = watch.memories.get((series.metric, series.dimensions))
            memory = None if packed is None else _unpacked(packed)
            for alert in watch.alerts:
                if alert.metric == series.metric and series.dimensions == "{}":
                    found._hold(series, alert, _held_since(memory, alert))
            began = None if memory is None else memory["series"]["began"]
            same = began is None or began * 1000 == series.points[0][0]
            if series.is_detected and series.is_whole and same:
                found._add(series.name, "missing", -math.inf, flags.of_silence(series.points))
        return found

    def _hold(self, series: Series, alert: Alert, since: float | None) -> None:
        if since is None:
            return
        points = [one for one in series.points if one[0] >= since]
        clean = series.is_whole or since > series.points[0][0]
        known, told = flags.of_level(alert, points, clean=clean)
        self._add(series.name, f"threshold:{alert.name}", max(known, since - 1), told)

    def _add(self, series: str, detector: str, since: float, told: flags.Told) -> None:
        self.since[series, detector] = since
        self.told |= {(series, detector, words[0].started_at): words for words in told}

    def is_known(self, series: str, detector: str, started_at: int) -> bool:
        """Whether such a flag is among those told, if it is right."""
        return started_at > self.since.get((series, detector), math.inf)

    def faults(
        self, found: Mapping[Key, Sequence[Mapping[str, Any]]], done: int
    ) -> Iterator[Fault]:
        """Where flags of statistical detectors are not what any must be.

        Minutes before `done` had been judged when the flags were read.
        """
        by_series: defaultdict[str, list[Key]] = defaultdict(list)
        for key in found:
            if key[1] in DETECTORS and key[0] in self.series:
                by_series[key[0]].append(key)
        for name, keys in by_series.items():
            series = self.series[name]
            keys.sort(key=lambda key: key[2])
            for key in keys:
                yield from ((key, *fault) for fault in _faults(series, found[key], done))
            for before, key in pairwise(keys):
                last, first = found[before][-1], found[key][0]
                yield from ((key, *fault) for fault in _beside(last, first))


def _faults(
    series: Series, said: Sequence[Mapping[str, Any]], done: int
) -> Iterator[tuple[str, str]]:
    """What must hold of a flag."""
    started, judged = said[0]["started_at"], series.judged
    if started not in judged:
        if series.is_whole:
            yield "a minute with a value", str(started)
        return
    for row in said:
        ended, severity, score = row["ended_at"], row["severity"], row["score"]
        until = series.end if ended is None else ended
        if score < (RED if severity == "red" else YELLOW):
            yield f"less than {severity}", f"{severity}, score {score}"
        if series.is_whole:
            first = series.points[0][0]
            if severity == "red" and until - first < KNOWN:
                yield "nothing red in the first eight days", "red"
            if severity == "yellow" and score >= RED and started - first >= KNOWN:
                yield "red", f"yellow, score {score}"
        last = started if row["version"] == 1 else until - MINUTE
        seen = (value for minute, value in judged.items() if started <= minute <= last)
        if not any(_near(value, row["observed"]) for value in seen):
            yield f"observed {judged[started]}, or a later minute's", str(row["observed"])
    ended = said[-1]["ended_at"]
    last = done - MINUTE if ended is None else ended
    lasted = sum(started < minute <= last for minute in judged)
    if lasted > LONGEST or (lasted == LONGEST and ended is None):
        yield f"cleared after {LONGEST} points", f"{lasted} points"


def _beside(last: Mapping[str, Any], row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What must hold of two flags on end."""
    if last["ended_at"] is None or last["ended_at"] > row["started_at"]:
        yield "one flag at a time", f"another one since {last['started_at']}"
    elif row["started_at"] - last["ended_at"] < DAY and row["score"] < last["score"] + RARER:
        yield "quiet for a day after the flag before", f"{last['score']}, then {row['score']}"


def _series(points: Points, watch: Watch) -> Iterator[Series]:
    """Of everything that has values."""
    crowded = _crowded(points, watch.grains)
    parts: defaultdict[str, defaultdict[tuple[int, str], dict[int, bytes]]]
    parts = defaultdict(lambda: defaultdict(dict))
    for source, version, start, dimensions, packed in points.rows:
        if dimensions not in crowded:
            parts[version][start, dimensions][source] = packed
    for grain in watch.grains:
        spans = points.spans.get(grain.version, {})
        if not spans.keys() >= watch.sources:
            continue
        end = min(span.done for span in spans.values())
        begin = max((span.begin for span in spans.values() if span.begin is not None), default=None)
        found: dict[tuple[str, str], dict[int, float]] = defaultdict(dict)
        for (start, dimensions), rows in parts[grain.version].items():
            if (begin is None or start >= begin) and start < end:
                for name, cell in anomalies.values(grain, *rows.values()).items():
                    found[name, dimensions][start] = cell.numerator / cell.denominator
        metric_of = {name: metric for metric in grain.metrics for name in metric.series}
        for (name, dimensions), values in found.items():
            yield Series(
                metric=name,
                dimensions=dimensions,
                values=values,
                zeros=metric_of[name].aggregate in COUNTED,
                is_detected=metric_of[name].name in watch.detected,
                is_whole=begin is None,
                end=end,
            )


def _crowded(points: Points, grains: Sequence[Grain]) -> set[str]:
    """Dimensions of partitions with more series than are watched: which of them are, is open."""
    most = max((sum(len(m.series) for m in grain.metrics) for grain in grains), default=1)
    full = (of for of in points.places.values() if len(of) * most > MOST)
    return {dimensions for of in full for dimensions in of}


def _held_since(memory: Mapping[str, Any] | None, alert: Alert) -> float | None:
    """Since when the series is held to this very level; None: to another one, or to none yet."""
    if memory is None:
        return None
    wanted = {
        **alert.model_dump(include={"unit", "side", "scale"}),
        "yellow": _limit(alert.yellow),
        "red": _limit(alert.red),
    }
    for held in memory["held"]:
        if held["name"] == alert.name and json.loads(held["level"]) == wanted:
            return held.get("since") or -math.inf
    return None


def _limit(limit: Limit | None) -> dict[str, float] | None:
    return None if limit is None else {"value": limit.value, "seconds": limit.minutes * 60}


def _unpacked(state: bytes) -> Mapping[str, Any]:
    return json.loads(zlib.decompress(state))  # type: ignore[no-any-return]


def _near(one: float, other: float | None) -> bool:
    return other is not None and math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
