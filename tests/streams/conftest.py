"""A log in memory around the real tasks, and what plain Python makes of the same events.

`Pipeline` is events -> MetricSource -> metric-partials -> MetricMerge -> metrics, with changelogs,
committed offsets and metadata as Kafka would keep them; a test decides how records are batched,
when there is a barrier, an abort or a restart. `oracle` is how the result has to be.
"""

from __future__ import annotations

import json
import math
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any

import pytest

from streamgauge.schemas.codec import Codec
from streamgauge.schemas.columnar import Decoder
from streamgauge.schemas.events import EVENT_TYPES
from streamgauge.schemas.metrics import (
    GAMMA,
    WINDOW_MS,
    Definitions,
    Grain,
    Metric,
    Selection,
    load_definitions,
)
from streamgauge.schemas.records import MARKER_TIME, Tick
from streamgauge.schemas.registry import Registry, open_registry
from streamgauge.streams.branch import Branch
from streamgauge.streams.engine.task import Batch, Output, Task
from streamgauge.streams.metrics.tasks import MetricMerge, MetricSource

PARTITIONS = 2
LATENESS = 600_000
START = 1_760_054_400_000  # a midnight, UTC
DEFINITIONS = """
extends: none
metrics:
  - {name: events, aggregate: count, by: [[], [event_type]]}
  - {name: views, events: [page_view], aggregate: count, by: [[], [page, device_type]]}
  - {name: people, aggregate: distinct_users, by: [[], [event_type]]}
  - {name: readers, events: [page_view], aggregate: distinct_users}
  - name: bytes
    events: [page_view]
    aggregate: sum
    field: response_size_bytes
    windows: [1m, 1h]
  - {name: score, events: [rating], where: {score: {gt: -1}}, aggregate: mean, field: score}
  - {name: worst, events: [rating], aggregate: min, field: score}
  - {name: best, events: [rating], aggregate: max, field: score}
  - {name: hits, events: [request], aggregate: mean, field: cache_hit}
  - name: slow
    events: [request]
    aggregate: quantiles
    field: duration_ms
    quantiles: [0, 0.5, 0.99]
    by: [[], [cache_hit]]
  - name: rating_per_view
    aggregate: ratio
    numerator: {events: [rating], field: score}
    denominator: {events: [page_view], where: {page: [/a, /b], status: {not_null: false}}}
"""


@dataclass(frozen=True)
class Message:
    """confluent_kafka.Message, as far as tasks and decoders use it."""

    _partition: int
    _offset: int
    _key: bytes | None
    _value: bytes | None
    _appended: int = 0

    def partition(self) -> int:
        return self._partition

    def offset(self) -> int:
        return self._offset

    def key(self) -> bytes | None:
        return self._key

    def value(self) -> bytes | None:
        return self._value

    def timestamp(self) -> tuple[int, int]:
        return 2, self._appended


@dataclass
class Stage:
    """A task with its input's positions and commits."""

    make: Any
    task: Task
    decoder: Decoder
    position: dict[int, int]
    committed: dict[int, tuple[int, str]]
    checkpoints: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    loaded: int = 0


@dataclass
class Pipeline:
    """Topics are lists; `now` is the monotonic clock."""

    definitions: Definitions
    registry: Registry
    lateness: int = LATENESS
    partitions: int = PARTITIONS
    branches: Callable[[], Sequence[Branch]] = tuple
    topics: dict[str, list[list[Message]]] = field(default_factory=dict)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.codec = Codec(self.registry)
        names = ("events", "metric-partials", "metrics", "metric-users", "metric-rollups")
        for name in (*names, "late-events", "dead-letters"):
            self.topics[name] = [[] for _ in range(self.partitions)]
        count, late = self.partitions, self.lateness
        self.source = self._stage(
            lambda: MetricSource(
                self.definitions,
                self.registry,
                partitions=count,
                lateness_ms=late,
                branches=self.branches(),
            )
        )
        self.merge = self._stage(
            lambda: MetricMerge(
                self.definitions, self.registry, source_partitions=count, lateness_ms=late
            )
        )

    def _stage(self, make: Callable[[], Task]) -> Stage:
        task = make()
        for name in task.changelogs:
            self.topics.setdefault(name, [[] for _ in range(self.partitions)])
        decoder = Decoder(self.registry, task.topic, task.columns)
        every = range(self.partitions)
        stage = Stage(make, task, decoder, dict.fromkeys(every, 0), {})
        for partition in every:
            stage.committed[partition] = (task.resume_from(partition, 0, ""), "")
        task.restored(set(every))
        task.commit()
        return stage

    def append(self, partition: int, event: dict[str, Any], appended: int | None = None) -> None:
        """An event, or a tick: {"event_type": "tick", "timestamp": ...}, maybe with a control."""
        if event["event_type"] == "tick":
            record: Any = Tick(timestamp=event["timestamp"], control=event.get("control"))
        else:
            record = EVENT_TYPES[event["event_type"]](**event)
        at = event["timestamp"] if appended is None else appended
        self._write("events", partition, b"user", self.codec.encode("events", record), at)

    def fill(self, logs: Sequence[Sequence[dict[str, Any]]]) -> None:
        """A log for each partition, of events with the time of their arrival (`appended`)."""
        for partition, log in enumerate(logs):
            for record in log:
                event = {name: value for name, value in record.items() if name != "appended"}
                self.append(partition, event, record["appended"])

    def _write(
        self, topic: str, partition: int, key: bytes | None, value: bytes | None, at: int = 0
    ) -> None:
        log = self.topics.setdefault(topic, [[] for _ in range(self.partitions)])[partition]
        log.append(Message(partition, len(log), key, value, at))

    def batch(self, stage: Stage, spans: dict[int, tuple[int, int]]) -> Batch:
        logs = self.topics[stage.task.topic]
        messages = [m for p, (start, end) in spans.items() for m in logs[p][start:end]]
        decoded = stage.decoder.decode(messages)
        assert not decoded.rejects
        return Batch(topic=stage.task.topic, messages=messages, frame=decoded.frame)

    def read(self, stage: Stage, counts: dict[int, int]) -> None:
        """Deliver up to so many records of each partition."""
        logs = self.topics[stage.task.topic]
        spans = {}
        for partition, count in counts.items():
            start = stage.position[partition]
            spans[partition] = (start, min(start + count, len(logs[partition])))
            stage.position[partition] = spans[partition][1]
        stage.task.process(self.batch(stage, spans))

    def barrier(self, stage: Stage) -> None:
        """Flush and commit."""
        outputs: list[Output] = list(stage.task.flush(self.now))
        for output in outputs:
            places = output.partitions
            for number, (key, value) in enumerate(zip(output.keys, output.values, strict=True)):
                if isinstance(places, int):
                    place = places
                else:
                    place = 0 if places is None else places[number]
                self._write(output.topic, place, key, value)
        for partition, position in stage.position.items():
            metadata = stage.task.metadata(partition)
            assert len(metadata) <= 1024
            stage.committed[partition] = (position, metadata)
        stage.task.commit()

    def abort(self, stage: Stage) -> None:
        """A transaction that failed after its flush."""
        list(stage.task.flush(self.now))
        stage.task.abort()
        stage.position = {p: offset for p, (offset, _) in stage.committed.items()}

    def restart(self, stage: Stage, definitions: Definitions | None = None) -> None:
        """Everything in memory is lost."""
        if definitions is not None:
            self.definitions = definitions
        stage.task = stage.make()
        self.hand_over(stage, set(range(self.partitions)))

    def hand_over(self, stage: Stage, partitions: set[int]) -> None:
        """Restore partitions from the commits and the changelogs."""
        task = stage.task
        spans, all_of_it = {}, []
        for partition in partitions:
            offset, metadata = stage.committed[partition]
            stage.position[partition] = offset
            at, snapshot = stage.checkpoints.get(partition, (-1, b""))
            if at >= 0 and task.load(partition, memoryview(snapshot), at, offset, metadata):
                spans[partition] = (at, offset)
                stage.loaded += 1
            else:
                spans[partition] = (task.resume_from(partition, offset, metadata), offset)
                all_of_it.append(partition)
        for changelog in task.changelogs:
            for partition in all_of_it:
                rows = self.topics[changelog][partition]
                for start in range(0, len(rows), 7):
                    chunk = rows[start : start + 7]
                    keys = [m.key() or b"" for m in chunk]
                    task.restore(changelog, keys, [m.value() for m in chunk], partition)
        for partition, (start, end) in spans.items():
            for low in range(start, end, 5):
                task.replay(self.batch(stage, {partition: (low, min(low + 5, end))}))
        task.restored(partitions)
        task.commit()

    def checkpoint(self, stage: Stage, partitions: set[int]) -> None:
        """Keep the stable state, which is that of the last commit."""
        snapshot = stage.task.snapshot()
        assert snapshot is not None
        for partition in partitions:
            stage.checkpoints[partition] = stage.committed[partition][0], snapshot(partition)

    def stand_by(self, stage: Stage) -> None:
        """Somebody else follows, from checkpoint to checkpoint."""
        every = set(range(self.partitions))
        other = replace(stage, task=stage.make(), position={})
        self.hand_over(other, every)
        self.checkpoint(other, every)

    def disturb(self, r: random.Random, steps: int, *, checkpoints: bool = False) -> None:
        """Batches of any size to the first stage, and whatever may happen to its worker."""
        stage = self.source
        for _ in range(steps):
            if checkpoints and r.random() < 0.5:
                self.checkpoint(stage, {r.randrange(self.partitions)})
            self.some_batch(stage, r)
            self.some_end(stage, r, abort=0.65, restart=0.85, move=0.95)

    def some_batch(self, stage: Stage, r: random.Random) -> None:
        """Some time later: some records of each partition."""
        self.now += r.choice([0.1, 0.1, 1.0, 5.0])
        self.read(stage, {p: r.choice([0, 1, 3, 30]) for p in range(self.partitions)})

    def some_end(
        self, stage: Stage, r: random.Random, *, abort: float, restart: float, move: float
    ) -> None:
        """A batch's: a commit, an abort, a restart or a partition that moves (each up to that
        share of the cases, the first half are commits), or nothing yet."""
        action = r.random()
        if action < 0.5:
            self.barrier(stage)
        elif action < abort:
            self.abort(stage)
        elif action < restart:
            self.restart(stage)
        elif action < move:
            self.abort(stage)
            moved = {r.randrange(self.partitions)}
            stage.task.revoke(moved)
            self.hand_over(stage, moved)

    def finish(self) -> None:
        """Read everything there is, and let every throttle pass."""
        for stage in (self.source, self.merge):
            logs = self.topics[stage.task.topic]
            self.read(stage, {p: len(log) for p, log in enumerate(logs)})
            for _ in range(2):
                self.now += 10
                self.barrier(stage)
            assert stage.task.settled

    def metrics(self) -> dict[tuple[str, int, str, str], dict[str, Any]]:
        """The last row of each key."""
        rows = {}
        for log in self.topics["metrics"]:
            for message in log:
                row = self.codec.decode(message.value() or b"").record
                place = (row["window_size"], row["window_start"], row["version"], row["dimensions"])
                assert message.key() == "|".join(map(str, place)).encode()
                assert not rows.get(place, {}).get("is_final") or rows[place] == row
                rows[place] = row
        return rows

    def letters(self, topic: str) -> list[dict[str, Any]]:
        return [
            self.codec.decode(message.value() or b"").record
            for log in self.topics[topic]
            for message in log
        ]


def decide(log: Sequence[dict[str, Any]], lateness: int) -> tuple[list[str], int | None]:
    """The fate of each record of a partition, and the watermark after them."""
    fates, accepted, watermark = [], [], None
    for record in log:
        time = record["timestamp"]
        if record["event_type"] == "tick":
            time = min(time, record.get("appended", time))
            if record["timestamp"] == MARKER_TIME:
                time = -math.inf
        floor = -math.inf if watermark is None else watermark - lateness
        if record["event_type"] == "tick":
            fates.append("tick")
        elif time > record.get("appended", time) + 300_000:
            fates.append("future")
        elif any(e["event_id"] == record["event_id"] and e["timestamp"] >= floor for e in accepted):
            fates.append("duplicate")
        elif time < floor:
            fates.append("late")
        else:
            fates.append("accepted")
            accepted.append(record)
        if fates[-1] in ("accepted", "tick") and time > -math.inf:
            watermark = time if watermark is None else max(watermark, time)
    return fates, watermark


def _value(event: dict[str, Any], name: str) -> Any:
    if name == "page":
        url = event.get("page_url")
        return None if url is None else url.split("?")[0].split("#")[0]
    return event.get(name)


def _holds(value: Any, operator: str, other: Any) -> bool:
    if operator == "not_null":
        return (value is not None) == other
    if value is None:
        return False
    return {
        "eq": lambda: value == other,
        "ne": lambda: value != other,
        "lt": lambda: value < other,
        "le": lambda: value <= other,
        "gt": lambda: value > other,
        "ge": lambda: value >= other,
        "in": lambda: value in other,
    }[operator]()


def _takes(selection: Selection, event: dict[str, Any]) -> bool:
    if selection.events is not None and event["event_type"] not in selection.events:
        return False
    return all(_holds(_value(event, c.field), c.operator, c.value) for c in selection.where)


def _observed(selection: Selection, events: Sequence[dict[str, Any]]) -> list[Fraction]:
    values = [_value(e, selection.field or "") for e in events if _takes(selection, e)]
    known = [value for value in values if value is not None]
    if selection.kind == "float":
        return [Fraction(round(value * 1_000_000), 1_000_000) for value in known]
    return [Fraction(int(value)) for value in known]


def _users(selection: Selection, events: Sequence[dict[str, Any]]) -> int:
    return len(
        {
            event.get("user_id") or event.get("anonymous_id")
            for event in events
            if _takes(selection, event) and event.get("consent_analytics") is not False
        }
    )


def evaluate(metric: Metric, events: Sequence[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """The metric's series of some events: name -> (numerator, denominator)."""
    selection = metric.selection
    taken = [event for event in events if _takes(selection, event)]
    if metric.aggregate == "ratio":
        sums = [
            sum(_observed(part, events)) if part.field else sum(_takes(part, e) for e in events)
            for part in metric.selections
        ]
        return {metric.name: (float(sums[0]), float(sums[1]))} if sums[1] else {}
    if metric.aggregate == "count":
        return {metric.name: (len(taken), 1)} if taken else {}
    if metric.aggregate == "distinct_users":
        users = _users(selection, events)
        return {metric.name: (users, 1)} if users else {}
    if metric.aggregate == "quantiles":
        given = [_value(e, selection.field or "") for e in taken]
        values = sorted(value for value in given if value is not None)
        found = {}
        for name, q in zip(metric.series, metric.quantiles, strict=True):
            if values:
                value = values[math.floor(q * (len(values) - 1))]
                bucket = math.ceil(math.log(value) / math.log(GAMMA)) if value > 1e-9 else None
                found[name] = (0.0 if bucket is None else 2 * GAMMA**bucket / (GAMMA + 1), 1)
        return found
    observed = _observed(selection, events)
    if not observed:
        return {}
    denominator = len(observed) if metric.aggregate == "mean" else 1
    total = {"min": min, "max": max}.get(metric.aggregate, sum)(observed)
    return {metric.name: (float(total), denominator)}


def _dimensions(grain: Grain, event: dict[str, Any]) -> str:
    def text(value: Any) -> str | None:
        return str(value).lower() if isinstance(value, bool) else value and str(value)

    values = {name: text(_value(event, name)) for name in grain.dimensions}
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _rounded(value: float) -> float:
    """Without the last bits of powers and logarithms."""
    return float(f"{value:.12g}")


def expected(
    logs: Sequence[Sequence[dict[str, Any]]], definitions: Definitions, lateness: int = LATENESS
) -> dict[tuple[str, int, str, str], dict[str, Any]]:
    """The rows of `metrics` for these logs, one a partition."""
    decided = [decide(log, lateness) for log in logs]
    events = [
        event
        for log, (fates, _) in zip(logs, decided, strict=True)
        for event, fate in zip(log, fates, strict=True)
        if fate == "accepted"
    ]
    watermarks = [watermark for _, watermark in decided]
    least = -math.inf if None in watermarks else min(w for w in watermarks if w is not None)
    rows = {}
    for grain in definitions.grains():
        groups = defaultdict(list)
        for event in events:
            for size in grain.windows:
                start = event["timestamp"] // WINDOW_MS[size] * WINDOW_MS[size]
                groups[size, start, grain.version, _dimensions(grain, event)].append(event)
        for place, members in groups.items():
            series = {
                name: (_rounded(numerator), float(denominator))
                for metric in grain.metrics
                for name, (numerator, denominator) in evaluate(metric, members).items()
            }
            if series:
                users = grain.users and _users(grain.users.selection, members)
                final = least >= place[1] + WINDOW_MS[place[0]] + lateness
                rows[place] = {"series": series, "users": users, "is_final": final}
    return rows


def seen(rows: dict[Any, dict[str, Any]]) -> dict[Any, dict[str, Any]]:
    """Rows of `metrics` as `expected` has them; what the oracle does not know is checked here."""
    for row in rows.values():
        parts = zip(row["values"], row["numerators"], row["denominators"], strict=True)
        assert all(value == n / d for value, n, d in parts)
    return {
        place: {
            "series": {
                name: (_rounded(n), d)
                for name, n, d in zip(
                    row["metrics"], row["numerators"], row["denominators"], strict=True
                )
            },
            "users": row["users"],
            "is_final": row["is_final"],
        }
        for place, row in rows.items()
    }


@dataclass(frozen=True)
class Kit:
    """What tests take from here (there are no packages of tests to import from)."""

    definitions: Definitions = field(repr=False)
    start: int = START
    lateness: int = LATENESS
    partitions: int = PARTITIONS

    def pipeline(self, definitions: Definitions | None = None, **settings: Any) -> Pipeline:
        return Pipeline(
            definitions or self.definitions, open_registry("mock://metrics"), **settings
        )

    decide = staticmethod(decide)
    expected = staticmethod(expected)
    seen = staticmethod(seen)


@pytest.fixture(scope="session")
def kit() -> Kit:
    return Kit(load_definitions(DEFINITIONS))
