"""Points and flags through batches, aborts, restarts and checkpoints: the log alone decides."""

from __future__ import annotations

import json
import math
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamgauge.cli.verify import anomalies as verify
from streamgauge.cli.verify import user_flags
from streamgauge.cli.verify.flag_targets import compare_flags
from streamgauge.cli.verify.series_flags import SeriesFlags, Watch
from streamgauge.cli.verify.user_flags import UserFlags
from streamgauge.schemas.alerts import Alert, Limit
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.metrics import Definitions, load_definitions
from streamgauge.schemas.registry import open_registry
from streamgauge.schemas.watched import watched
from streamgauge.streams.anomalies import tasks, user_branch, users
from streamgauge.streams.anomalies.board import Board
from streamgauge.streams.anomalies.points import PointsBranch
from streamgauge.streams.anomalies.series import Series
from streamgauge.streams.anomalies.tasks import AnomalyWatch
from streamgauge.streams.anomalies.user_branch import UserWatch
from streamgauge.streams.anomalies.watched import DORMANT, Memory, Settings
from streamgauge.streams.branch import Branch
from streamgauge.streams.metrics.plan import Plan

MINUTE = 60_000
SETTLE = 60_000
DEFINITIONS = load_definitions("""
extends: none
metrics:
  - {name: events, aggregate: count, by: [[], [device_type]], anomalies: [[], [device_type]]}
  - {name: people, aggregate: distinct_users, anomalies: true}
  - {name: score, events: [rating], aggregate: mean, field: score, anomalies: true}
  - {name: views, events: [page_view], aggregate: count}
  - name: slow
    events: [request]
    aggregate: quantiles
    field: duration_ms
    quantiles: [0.5]
    anomalies: true
""")
ALERTS = (
    Alert(name="busy", metric="events", yellow=Limit(value=2), red=Limit(value=4, minutes=1)),
    Alert(name="few_views", metric="views", side="below", yellow=Limit(value=1, minutes=3)),
)


class Stream:
    """Both stages in memory."""

    def __init__(self, kit: Any, definitions: Definitions = DEFINITIONS) -> None:
        self.definitions, self.alerts = definitions, ALERTS
        self.partitions, self.lateness = kit.partitions, kit.lateness
        self.registry = open_registry("mock://metrics")  # the pipeline's
        self.pipeline = kit.pipeline(definitions, branches=self.branches)
        self.pipeline.codec = Codec(self.registry)
        for topic in ("anomaly-points", "anomalies"):
            self.pipeline.topics[topic] = [[] for _ in range(kit.partitions)]
        self.source = self.pipeline.source
        self.watch = self.pipeline._stage(self.task)

    def branches(self) -> list[Branch]:
        return [
            PointsBranch(
                watched(self.definitions, self.alerts),
                self.registry,
                partitions=self.partitions,
                lateness_ms=self.lateness,
            ),
            UserWatch(self.registry, lateness_ms=self.lateness),
        ]

    def task(self) -> AnomalyWatch:
        return AnomalyWatch(
            self.definitions,
            self.alerts,
            self.registry,
            source_partitions=self.partitions,
        )

    def append(self, logs: Iterable[list[dict[str, Any]]]) -> None:
        for partition, log in enumerate(logs):
            for record in log:
                event = {name: value for name, value in record.items() if name != "appended"}
                self.pipeline.append(partition, event, record.get("appended"))

    def finish(self) -> None:
        for stage in (self.source, self.watch):
            logs = self.pipeline.topics[stage.task.topic]
            self.pipeline.read(stage, {p: len(log) for p, log in enumerate(logs)})
            self.pipeline.now += 20
            self.pipeline.barrier(stage)

    def rows(self, topic: str) -> list[dict[str, Any]]:
        return [
            dict(self.pipeline.codec.decode(message.value()).record)
            for log in self.pipeline.topics[topic]
            for message in log
        ]

    def points(self) -> dict[tuple[int, int, str, str], bytes]:
        found: dict[tuple[int, int, str, str], bytes] = {}
        for row in self.rows("anomaly-points"):
            if row["window_start"] is not None:
                place = (row["source_partition"], row["window_start"])
                key = (*place, row["version"], row["dimensions"])
                assert key not in found  # written once
                found[key] = row["parts"]
        return found

    def words(self) -> list[dict[str, Any]]:
        return sorted(
            self.rows("anomalies"), key=lambda w: (w["series"], w["detector"], w["started_at"])
        )


def some_log(r: random.Random, start: int, size: int, user: str) -> list[dict[str, Any]]:
    """Some hours: out of order, repeated, prompt and not, bursts, silence and ticks."""
    log: list[dict[str, Any]] = []
    now = start
    for number in range(size):
        now += r.choice([0, 0, 1_000, 20_000, 90_000, 1_000_000 if r.random() < 0.05 else 0])
        time = now - r.choice([0, 0, 0, 5_000, 70_000, 200_000, 400_000])
        kind = r.choice(["page_view", "rating", "request", "tick", "again"])
        if kind == "tick":
            log.append({"event_type": "tick", "timestamp": now, "appended": now})
            continue
        if kind == "again" and log and log[-1]["event_type"] != "tick":
            log.append(dict(log[-1]))
            continue
        event: dict[str, Any] = {
            "event_type": kind if kind != "again" else "search",
            "event_id": f"{user}-{number}",
            "user_id": f"{user}-{r.randrange(3)}",
            "timestamp": time,
            "appended": now,
            "consent_analytics": r.choice([None, True, False]),
            "device_type": r.choice([None, "mobile"]),
        }
        if kind == "rating":
            event["score"] = r.choice([None, -1.5, 0.1, 4.0])
        if kind == "request":
            event["duration_ms"] = r.choice([None, 0.5, 12.0, 9e9])
        log.append(event)
    return log


def prompt(log: list[dict[str, Any]], kit: Any) -> tuple[list[dict[str, Any]], float]:
    """Accepted events that came in time, one by one, and the watermark after all."""
    fates, _ = kit.decide(log, kit.lateness)
    watermark, found = -math.inf, []
    for record, fate in zip(log, fates, strict=True):
        if fate == "accepted":
            end = record["timestamp"] // MINUTE * MINUTE + MINUTE
            if watermark < end + SETTLE:
                found.append(record)
        if fate in ("accepted", "tick"):
            watermark = max(watermark, record["timestamp"])
    return found, watermark


def expected_points(logs: list[list[dict[str, Any]]], kit: Any) -> dict[Any, Any]:
    """Values by source partition and place, of minutes that are done."""
    definitions = watched(DEFINITIONS, ALERTS)
    found = {}
    for partition, log in enumerate(logs):
        events, watermark = prompt(log, kit)
        # one partition's metrics are the metrics of a log of that partition alone
        for (_, start, version, dimensions), row in kit.expected(
            [[dict(e, event_id=str(n)) for n, e in enumerate(sorted_by_time(events))]], definitions
        ).items():
            if start + MINUTE + SETTLE <= watermark:
                found[partition, start, version, dimensions] = row["series"]
    return found


def sorted_by_time(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """So that none of them is late again."""
    return sorted(events, key=lambda event: event["timestamp"])


def seen_points(stream: Stream) -> dict[Any, Any]:
    plan = Plan(watched(DEFINITIONS, ALERTS))
    found: dict[Any, Any] = {}
    for (source, start, version, dimensions), parts in stream.points().items():
        board = Board(rows={start: {(version, dimensions, source): parts}})
        values = board.values(plan, version, start, start + MINUTE)
        again = verify.values(plan.grains[plan.numbers[version]], parts)
        assert {name: value for *_, name, value in values} == pytest.approx(
            {name: cell.value for name, cell in again.items()}
        )
        found[source, start, version, dimensions] = {
            name: float(f"{value:.12g}") for _, _, name, value in values
        }
    return found


Flags = dict[tuple[str, str, int], list[dict[str, Any]]]


def unproved(
    stream: Stream,
    logs: list[list[dict[str, Any]]],
    kit: Any,
    change: Callable[[Flags], Any] = lambda flags: None,
) -> list[str]:
    """What `verify` has to say against the flags, after a change of them."""
    points = verify.Points(is_whole=True)
    topics, decode = stream.pipeline.topics, stream.pipeline.codec.decode
    for place, log in enumerate(topics["anomaly-points"]):
        for message in log:
            points.add(place, decode(message.value()).record)
    users = UserFlags(lateness_ms=kit.lateness, consent_denied=False)
    done = []
    for partition, records in enumerate(logs):
        fates, watermark = kit.decide(records, kit.lateness)
        done.append((watermark or 0) - SETTLE)
        for record, fate in zip(records, fates, strict=True):
            if fate == "accepted":
                users.event(partition, 0, record)
            elif fate == "tick":
                time = record["timestamp"]
                users.tick(partition, min(time, record.get("appended", time)))
    flags: Flags = defaultdict(list)
    for row in stream.rows("anomalies"):
        flags[row["series"], row["detector"], row["started_at"]].append(row)
    change(flags)
    memories = {
        tuple(json.loads(message.key())): decode(message.value()).record["state"]
        for log in topics["anomaly-state"]
        for message in log
        if message.key().startswith(b"[")
    }
    watch = Watch(
        grains=watched(stream.definitions, stream.alerts).grains(),
        alerts=stream.alerts,
        detected=frozenset(metric.name for metric in DEFINITIONS.metrics if metric.watched),
        sources=frozenset(range(kit.partitions)),
        memories=memories,
    )
    series = SeriesFlags.of(points, watch)
    compared = compare_flags(flags, series, users, done=min(done), is_whole=True)
    assert compared.keys >= len(flags)
    return list(map(str, compared.differences))


@pytest.fixture(autouse=True)
def _often_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "SAVED_EVERY_MS", 15 * MINUTE)
    monkeypatch.setattr(user_branch, "BUSY", 1)
    small = {"BUSY": 1, "CAP": 3, "CAP_RED": 5, "BURST": 2, "BURST_TIMES": 1.5, "BURST_KNOWN": 1}
    small |= {"COMB_EVENTS": 2, "COMB_MINUTES": 2, "COMB_RED": 3}
    for name, value in small.items():
        monkeypatch.setattr(users, name, value)
        monkeypatch.setattr(user_flags, name, value)


def whole(kit: Any, logs: list[list[dict[str, Any]]]) -> Stream:
    """In one go."""
    stream = Stream(kit)
    stream.append(logs)
    stream.finish()
    return stream


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 10**9), data=st.data())
def test_points_and_words_follow_from_the_log_alone(kit: Any, seed: int, data: Any) -> None:
    r = random.Random(seed)
    logs = [some_log(r, kit.start + r.randrange(200_000), 90, f"u{p}") for p in range(2)]
    stream = whole(kit, logs)
    expected = {
        place: {name: top / bottom for name, (top, bottom) in row.items()}
        for place, row in expected_points(logs, kit).items()
    }
    assert seen_points(stream) == {
        place: {name: float(f"{value:.12g}") for name, value in row.items()}
        for place, row in expected.items()
    }

    other = Stream(kit)
    other.append(logs)
    pipeline = other.pipeline
    for _ in range(data.draw(st.integers(5, 30))):
        stage = r.choice([other.source, other.watch])
        counts = {p: r.randrange(1, 40) for p in range(2) if r.random() < 0.8}
        match r.choice(["read", "read", "read", "barrier", "abort", "restart", "checkpoint"]):
            case "read":
                if counts:
                    pipeline.read(stage, counts)
            case "barrier":
                pipeline.now += r.choice([0, 12])
                pipeline.barrier(stage)
            case "abort":
                pipeline.abort(stage)
            case "checkpoint":
                pipeline.barrier(stage)
                pipeline.checkpoint(stage, {0, 1})
            case "restart":
                pipeline.abort(stage)
                pipeline.restart(stage)
    other.finish()
    assert other.points() == stream.points()
    assert other.words() == stream.words()
    assert not unproved(other, logs, kit)


def test_a_flag_opens_once_and_clears_over_a_restart(kit: Any) -> None:
    #  minute  0  1  2  3  4  5  6          yellow > 2, red > 4 for a minute
    rates = [1, 3, 3, 6, 6, 6, 1]
    logs: list[list[dict[str, Any]]] = [[], []]
    for minute, rate in enumerate(rates):
        for number in range(rate):
            logs[number % 2].append(
                view(kit.start + minute * MINUTE + number, f"{minute}-{number}")
            )
    for log in logs:
        log.append({"event_type": "tick", "timestamp": kit.start + 20 * MINUTE})
    stream = Stream(kit)
    stream.append(logs)
    for _ in range(12):
        for stage in (stream.source, stream.watch):
            stream.pipeline.read(stage, {0: 2, 1: 2})
            stream.pipeline.barrier(stage)
            stream.pipeline.restart(stage)
    stream.finish()
    told = [
        (w["severity"], (w["started_at"] - kit.start) // MINUTE, w["ended_at"] and
         (w["ended_at"] - kit.start) // MINUTE, w["version"], w["is_final"])
        for w in stream.words() if w["detector"] == "threshold:busy"
    ]  # fmt: skip
    assert told == [
        ("yellow", 1, None, 1, False),
        ("red", 1, None, 2, False),
        ("red", 1, 6, 3, True),
    ]


def view(timestamp: int, name: str) -> dict[str, Any]:
    return {
        "event_type": "page_view",
        "event_id": name,
        "user_id": name,
        "timestamp": timestamp,
        "device_type": None,
    }


def dropped(flags: Flags, detector: str) -> None:
    flags.pop(next(key for key in flags if key[1] == detector))


def first(flags: Flags, detector: str) -> list[dict[str, Any]]:
    return next(words for (_, name, _), words in flags.items() if name == detector)


def invented(flags: Flags, detector: str, start: int) -> None:
    word = first(flags, detector)[0]
    flags[word["series"], detector, start] = [{**word, "started_at": start}]


@pytest.mark.parametrize(
    "change",
    [
        lambda flags, start: dropped(flags, "threshold:busy"),
        lambda flags, start: dropped(flags, "cap"),
        lambda flags, start: first(flags, "threshold:busy").pop(),
        lambda flags, start: first(flags, "cap").pop(),
        lambda flags, start: first(flags, "cap").insert(0, first(flags, "cap")[0]),
        lambda flags, start: first(flags, "threshold:busy")[1].update(severity="yellow"),
        lambda flags, start: first(flags, "cap")[0].update(severity="red"),
        lambda flags, start: first(flags, "threshold:busy")[0].update(observed=9.0),
        lambda flags, start: first(flags, "cap")[-1].update(ended_at=start),
        lambda flags, start: invented(flags, "threshold:busy", start + 9 * MINUTE),
        lambda flags, start: invented(flags, "cap", start + 9 * MINUTE),
    ],
)  # fmt: skip
def test_a_planted_fault_in_a_flag_is_found(kit: Any, change: Any) -> None:
    #        minute  0  1  2  3  4  5  6          yellow > 2, red > 4 for a minute
    rates = enumerate([1, 3, 3, 6, 6, 6, 1])
    log = [
        {**view(kit.start + minute * MINUTE + number, f"{minute}-{number}"), "user_id": "u"}
        for minute, rate in rates
        for number in range(rate)
    ]
    tick = {"event_type": "tick", "timestamp": kit.start + 20 * MINUTE}
    logs = [[*log, tick], [tick]]
    stream = whole(kit, logs)
    assert not unproved(stream, logs, kit)
    assert unproved(stream, logs, kit, lambda flags: change(flags, kit.start))
    # What compaction takes away is no fault.
    assert not unproved(stream, logs, kit, lambda flags: first(flags, "threshold:busy").pop(0))


def test_a_level_that_was_put_in_force_later_is_proved_from_there_on(kit: Any) -> None:
    log = [
        view(kit.start + minute * MINUTE + n, f"{minute}-{n}")
        for minute, rate in enumerate([1, 3, 3, 1, 1, 3, 1])
        for n in range(rate)
    ]
    ticks = [{"event_type": "tick", "timestamp": kit.start + at * MINUTE} for at in (5, 20)]
    logs = [[*log[:9], ticks[0], *log[9:], ticks[1]], [*ticks]]
    stream = Stream(kit)
    stream.alerts = (Alert(name="busy", metric="events", yellow=Limit(value=7)),)
    stream.watch = stream.pipeline._stage(stream.task)
    stream.append([logs[0][:10], logs[1][:1]])
    stream.finish()
    stream.alerts = ALERTS
    assert not unproved(stream, [logs[0][:10], logs[1][:1]], kit)  # it was not in force
    for stage in (stream.source, stream.watch):
        stream.pipeline.restart(stage)
    stream.append([logs[0][10:], logs[1][1:]])
    stream.finish()
    starts = [key[2] for key in busy_flags(stream)]
    assert starts == [kit.start + 5 * MINUTE]
    assert not unproved(stream, logs, kit)
    assert unproved(stream, logs, kit, lambda flags: dropped(flags, "threshold:busy"))


def busy_flags(stream: Stream) -> list[tuple[str, str, int]]:
    words = stream.words()
    keys = [(word["series"], word["detector"], word["started_at"]) for word in words]
    return list(dict.fromkeys(key for key in keys if key[1] == "threshold:busy"))


def test_an_alert_that_is_gone_ends_its_flag(kit: Any) -> None:
    stream = Stream(kit)
    burst = [view(kit.start + n, str(n)) for n in range(6)]
    for partition in range(2):
        stream.append([burst] if not partition else [[], []])
        stream.pipeline.append(
            partition, {"event_type": "tick", "timestamp": kit.start + 2 * MINUTE}
        )
    stream.finish()
    assert [w["ended_at"] for w in stream.words() if w["detector"] == "threshold:busy"] == [None]
    stream.alerts = ()
    for stage in (stream.source, stream.watch):
        stream.pipeline.restart(stage)
    for partition in range(2):
        stream.pipeline.append(
            partition, {"event_type": "tick", "timestamp": kit.start + 9 * MINUTE}
        )
    stream.finish()
    ends = [w["ended_at"] for w in stream.words() if w["detector"] == "threshold:busy"]
    assert len(ends) == 2
    assert ends[-1] is not None


COUNTED = Settings(metric="m", dimensions="{}", zeros=True, detected=True, levels={})


def test_silence_is_zeros_for_a_day_and_then_nothing() -> None:
    memory = Memory()
    memory.feed(60_000_000, 5.0, COUNTED)
    memory.pass_until(60_000_000 + 10 * DORMANT * MINUTE, COUNTED)
    assert memory.idle == DORMANT
    assert memory.next == 60_000_000 + 10 * DORMANT * MINUTE
    assert memory.series.absence.last == (60_000_000 + DORMANT * MINUTE) / 1000


def test_memory_comes_back_from_bytes() -> None:
    memory = Memory()
    r = random.Random(3)
    for minute in range(200):
        memory.feed((1 + minute) * MINUTE, r.gauss(10, 1) * (9 if minute == 199 else 1), COUNTED)
    assert memory.words
    assert Memory.of(memory.packed()) == memory
    assert isinstance(memory.series, Series)
    assert len(memory.packed()) < 200_000
    assert json.dumps(memory.words)
