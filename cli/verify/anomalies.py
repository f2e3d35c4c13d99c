"""What the topics and the table say of watched minutes and anomalies, beside what the raw log says.

Upstream: `recompute.py`, with the minutes of each source partition again. Downstream: the report.
Rows of `anomaly-points` hold parts; which part is what is written down here a second time:

    slot, 30 bits:  op (2) | part (10) | bucket + 2^17 (18; 0 for parts that are no quantiles)

An op of 0 is a sum, of 1 a minimum, of 2 a maximum. Parts are numbered in the order of the grain's
metrics, each distinct one once. Invariants: only minutes that are done before the cut are compared,
from where the version began; of `anomalies` the table must be the topic, of which the last word
about each counts.
"""

import struct
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import floor
from operator import add
from typing import Any, NamedTuple

from streamgauge.cli.verify import compare
from streamgauge.cli.verify.cells import Bound, Cell, CellKey, canonical
from streamgauge.cli.verify.compare import NOTHING
from streamgauge.cli.verify.config import VerifyConfig
from streamgauge.cli.verify.exclusions import Exclusions, rows_of
from streamgauge.cli.verify.log import Log
from streamgauge.cli.verify.postgres import Tables
from streamgauge.cli.verify.report import Comparison, Difference
from streamgauge.cli.verify.user_flags import UserFlags
from streamgauge.schemas.alerts import Alert
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.metrics import GAMMA, Grain, Metric
from streamgauge.schemas.topics import ACTIONS, ANOMALIES, ANOMALY_POINTS

_ENTRY = struct.Struct("<Iq")
_ZERO = 1 << 17
_OPS = (add, min, max)
_COLUMNS = (
    "series, detector, anomaly_id, (extract(epoch FROM started_at) * 1000)::bigint,"
    " (extract(epoch FROM ended_at) * 1000)::bigint, severity, expected, observed, score, version"
)
_FIELDS = ("anomaly_id", "started_at", "ended_at", "severity", "expected", "observed", "score")

_OF_FLAG = ("user_id", "detector", "severity", "started_at", "ended_at")
_ACTED = (
    *("severity", "rate", "started_at", "ended_at", "undone_at", "undone_by"),
    *("excluded_from", "excluded_until"),
)
_ACTION_COLUMNS = (
    "action, user_id, anomaly_id, severity, rate,"
    " (extract(epoch FROM started_at) * 1000)::bigint,"
    " (extract(epoch FROM ended_at) * 1000)::bigint,"
    " (extract(epoch FROM undone_at) * 1000)::bigint, undone_by,"
    " (extract(epoch FROM excluded_from) * 1000)::bigint,"
    " (extract(epoch FROM excluded_until) * 1000)::bigint"
)


@dataclass(frozen=True, kw_only=True)
class Minutes:
    """What has to be there: minutes by source partition, and the end of the last one done."""

    points: Mapping[tuple[int, CellKey], Cell]
    done: Mapping[int, int]
    grains: Sequence[Grain]
    alerts: Sequence[Alert]
    detected: frozenset[str]
    """Metrics that the detectors watch."""
    users: UserFlags


@dataclass
class Span:
    """Minutes of a version that a source partition has written without a hole."""

    begin: int | None
    """None: from its first one."""
    done: int


class Row(NamedTuple):
    """A row of `anomaly-points` with parts."""

    source: int
    version: str
    start: int
    dimensions: str
    parts: bytes


@dataclass(kw_only=True)
class Points:
    """The topic `anomaly-points`, of our versions."""

    is_whole: bool
    rows: list[Row] = field(default_factory=list)
    begun: dict[tuple[int, str], int] = field(default_factory=dict)
    """What a source partition said first of a version: minutes from there on are all written."""
    spans: dict[str, dict[int, Span]] = field(default_factory=dict)
    places: defaultdict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Dimensions by partition of the topic."""

    def add(self, place: int, row: Mapping[str, Any]) -> None:
        """A row of a partition of the topic."""
        version, source, start = row["version"], row["source_partition"], row["window_start"]
        if start is None:
            self.begun.setdefault((source, version), row["since"] or 0)
            self._further(version, source, row["since"], row["done"])
            return
        self.rows.append(Row(source, version, start, row["dimensions"], row["parts"]))
        self.places[place].add(row["dimensions"])

    def _further(self, version: str, source: int, since: int | None, done: int) -> None:
        """A row of progress; it comes once in each partition of the topic."""
        spans = self.spans.setdefault(version, {})
        known = spans.get(source)
        if known is None:
            # Rows before what a deleted or compacted row of progress said may be gone.
            is_first = since is None and self.is_whole
            spans[source] = Span(None if is_first else done, done)
        elif since is not None and since > known.done:
            spans[source] = Span(done, done)
        else:
            known.done = max(known.done, done)


def read_points(
    grains: Sequence[Grain], config: VerifyConfig, log: Log, codec: Codec
) -> Points | None:
    """None without the topic."""
    topic = config.topic(ANOMALY_POINTS.name)
    if not log.exists(topic):
        return None
    versions = {grain.version for grain in grains}
    points = Points(is_whole=log.is_whole(topic))
    for chunk in log.read(topic, *log.bounds(topic)):
        for message in chunk:
            row = codec.decode(message.value() or b"").record
            if row["version"] in versions:
                points.add(message.partition() or 0, row)
    return points


def compare_points(expected: Minutes, points: Points) -> Comparison:
    """The rows of `anomaly-points`."""
    grains = {grain.version: grain for grain in expected.grains}
    found: dict[Any, Cell] = {}
    twice: list[Difference] = []
    for source, version, start, dimensions, parts in points.rows:
        key = CellKey("", "1m", start, version, canonical(dimensions))
        if key.window_end > expected.done.get(source, 0):
            continue
        for name, cell in values(grains[version], parts).items():
            place = (source, key._replace(metric=name))
            if place in found:
                twice.append(_difference(place, None, "the row twice"))
            found[place] = cell
    wanted = {
        (source, key): cell
        for (source, key), cell in expected.points.items()
        if key.window_start >= points.begun.get((source, key.version), 0)
    }
    differences = [
        _difference(place, wanted.get(place), found.get(place))
        for place in sorted(wanted.keys() | found.keys())
        if not _same(wanted.get(place), found.get(place))
    ]
    comparison = Comparison(
        target=ANOMALY_POINTS.name, keys=len(wanted), differences=[*twice, *differences]
    )
    return comparison if points.is_whole else compare.without_missing(comparison)


def compare_anomalies(
    config: VerifyConfig, log: Log, codec: Codec, tables: Tables
) -> Iterator[Comparison]:
    """The table, beside the last words of the topic."""
    topic = config.topic(ANOMALIES.name)
    if not log.exists(topic):
        return
    rows = [codec.decode(value).record for value in log.last_values(topic).values()]
    told = {
        (row["series"], row["detector"], row["started_at"]): (
            *(row[name] for name in _FIELDS),
            row["version"],
        )
        for row in rows
    }
    found = {
        (series, detector, started): (id_, started, *rest)
        for series, detector, id_, started, *rest in tables.select("anomalies", _COLUMNS)
    }
    yield compare.rows("postgres.anomalies", told, found)


def compare_actions(
    exclusions: Exclusions, config: VerifyConfig, log: Log, codec: Codec, tables: Tables | None
) -> Iterator[Comparison]:
    """Each action is of a flag of its user, and ends with it; the table is the topic."""
    if not log.exists(config.topic(ACTIONS.name)):
        return
    rows = rows_of(config, log, codec)
    flags = {}
    for value in log.last_values(config.topic(ANOMALIES.name)).values():
        row = codec.decode(value).record
        flags[row["anomaly_id"]] = row
    differences = []
    for row in rows:
        flag = flags.get(row["anomaly_id"])
        key = f"{row['action']}|{row['user_id']}|{row['anomaly_id']}"
        differences += [
            Difference(target=ACTIONS.name, key=key, expected=expected, found=found)
            for expected, found in exclusions.problems(row, flag)
        ]
        known = None if flag is None else tuple(flag[name] for name in _OF_FLAG)
        if known != (said := tuple(row[name] for name in _OF_FLAG)) and row["undone_at"] is None:
            expected = NOTHING if known is None else str(known)
            differences.append(
                Difference(target=ACTIONS.name, key=key, expected=expected, found=str(said))
            )
    yield Comparison(target=ACTIONS.name, keys=len(rows), differences=differences)
    if tables is None:
        return
    told = {(r["action"], r["user_id"], r["anomaly_id"]): tuple(r[n] for n in _ACTED) for r in rows}
    kept = {tuple(row[:3]): tuple(row[3:]) for row in tables.select("actions", _ACTION_COLUMNS)}
    yield compare.rows("postgres.actions", told, kept)


def values(grain: Grain, *parts: bytes) -> dict[str, Cell]:
    """The series of a row, or of the rows of several source partitions, by name."""
    sums: dict[int, int] = {}
    buckets: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for slot, value in (entry for row in parts for entry in _ENTRY.iter_unpack(row)):
        op, part, bucket = slot >> 28, slot >> 18 & 1023, slot & (1 << 18) - 1
        if bucket:
            buckets[part][bucket - _ZERO] += value
        else:
            sums[part] = _OPS[op](sums[part], value) if part in sums else value
    number: dict[Any, int] = {}
    for metric in grain.metrics:
        for part in _parts(metric):
            number.setdefault(part, len(number))
    users = next((sums.get(number[_parts(m)[0]], 0) for m in grain.metrics if _is_users(m)), None)
    found = {}
    for metric in grain.metrics:
        first, *others = (number[part] for part in _parts(metric))
        if metric.aggregate == "quantiles":
            counts = buckets[first]
            names = zip(metric.series, metric.quantiles, strict=True) if counts else ()
            for name, share in names:
                value = _quantile(counts, share)
                found[name] = Cell(value, value, 1, users, False, Bound.QUANTILE)
            continue
        seen = others[-1] if others else first
        if not (metric.aggregate in ("min", "max") and first in sums) and not sums.get(seen):
            continue
        scale = metric.selection.scale if metric.selection.field else 1
        top, bottom = sums.get(first, 0) / scale, 1.0
        if metric.aggregate in ("mean", "ratio"):
            below = metric.denominator
            bottom = sums[seen] / (below.scale if below and below.field else 1)
        found[metric.name] = Cell(top / bottom, top, bottom, users, False)
    return found


def _is_users(metric: Metric) -> bool:
    return metric.aggregate == "distinct_users"


def _parts(metric: Metric) -> tuple[Any, ...]:
    """What a metric is made of: how it is added up, of which events, and what is read."""
    of = metric.selection
    match metric.aggregate:
        case "count":
            return (("sum", of, "one"),)
        case "sum" | "mean":
            return (("sum", of, "value"), ("sum", of, "seen"))
        case "min" | "max":
            return ((metric.aggregate, of, "value"),)
        case "distinct_users":
            return (("sum", of, "user"),)
        case "quantiles":
            return (("sum", of, "bucket"),)
        case "ratio":
            return tuple(("sum", s, "value" if s.field else "one") for s in metric.selections)


def _quantile(counts: Mapping[int, int], share: float) -> float:
    rank, passed = floor(share * (sum(counts.values()) - 1)), 0
    for bucket, count in sorted(counts.items()):
        passed += count
        if passed > rank:
            return 0.0 if bucket == 1 - _ZERO else 2 * GAMMA**bucket / (GAMMA + 1)
    raise ValueError("no observations")


def _same(expected: Cell | None, found: Cell | None) -> bool:
    if expected is None or found is None:
        return expected is found
    if expected.bound is Bound.QUANTILE:
        return compare.near(Bound.QUANTILE, expected.value, found.value)
    return (
        compare.near(expected.bound, expected.numerator, found.numerator)
        and compare.near(expected.bound, expected.denominator, found.denominator)
        and expected.users == found.users
    )


def _difference(place: tuple[int, CellKey], expected: object, found: object) -> Difference:
    return Difference(
        target=ANOMALY_POINTS.name,
        key=f"{place[0]}|{place[1]}",
        expected=NOTHING if expected is None else str(expected),
        found=NOTHING if found is None else str(found),
    )
