"""Users whom a policy excludes: a worker to which everything happens against plain Python."""

from __future__ import annotations

import json
import random
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from streamgauge.cli.verify.exclusions import Exclusions
from streamgauge.cli.verify.experiments import Experiments, Shown, statistics_of
from streamgauge.schemas import control
from streamgauge.schemas.alerts import load_policies
from streamgauge.schemas.exclusions import Undone
from streamgauge.schemas.experiments import Experiment, load_experiment
from streamgauge.schemas.metrics import builtin
from streamgauge.schemas.records import MARKER_TIME, Control
from streamgauge.schemas.registry import open_registry
from streamgauge.streams.anomalies.user_branch import UserWatch
from streamgauge.streams.anomalies.watched import id_of
from streamgauge.streams.experiments.branch import ExposureBranch

MINUTE, SETTLE = 60_000, 60_000
DETECTOR = "impossible"
EXCLUDE = load_policies("policies: [{detector: impossible, exclude: true}]", builtin())
EXPERIMENT = """
name: one
variants: [{name: a}, {name: b}]
duration_days: 1
lookback_days: 1
metrics:
  - {name: score, role: primary, aggregate: mean, events: [rating], field: score}
  - {name: viewed, aggregate: proportion, events: [page_view]}
"""


class Span(NamedTuple):
    """Of a user, by plain arithmetic."""

    user: str
    anomaly_id: str
    since: int
    until: int


def a_log(r: random.Random, start: int, size: int, partition: int) -> list[dict[str, Any]]:
    """An hour or more: out of order, repeated, late, denied, and some users' values cannot be."""
    log: list[dict[str, Any]] = []
    now = start
    for number in range(size):
        now += r.choice([0, 1_000, 5_000, 20_000, 40_000, 120_000])
        place = {"appended": now + 1_000}
        kind = r.choice(["request", "request", "request", "rating", "page_view", "shown"])
        if number == 4:
            definition = load_experiment(EXPERIMENT)
            one = Experiment(definition=definition, state="running", started_at=start)
            marked = Control(kind="experiment", name="one", version=1, body=one.body())
            log.append({**marker(marked), **place})
            continue
        if r.random() < 0.1:
            log.append({"event_type": "tick", "timestamp": now, **place})
            continue
        sent = [event for event in log if "user_id" in event]
        if r.random() < 0.1 and sent:
            log.append({**r.choice(sent), **place})
            continue
        late = r.choice([0, 0, 5_000, 90_000, 300_000, 590_000, 650_000])
        event = {"event_id": f"{partition} {number}", "user_id": f"{partition}-{r.randrange(3)}"}
        event |= {"timestamp": now - late, **place}
        if r.random() < 0.1:
            event["consent_analytics"] = False
        event["event_type"] = "experiment_exposure" if kind == "shown" else kind
        if kind == "shown":
            event |= {"experiment_id": "one", "variant": "ab"[len(event["user_id"]) % 2]}
        elif kind == "rating":
            event |= {"score": r.choice([0.5, 3.25, -2.0, None])}
        elif kind == "request":
            event |= {"duration_ms": r.choice([5.0, 70.0, None, 1e9])}
        log.append(event)
    return log


def marker(marked: Control) -> dict[str, Any]:
    return {"event_type": "tick", "timestamp": MARKER_TIME, "control": control.text(marked)}


def undoing(r: random.Random, kit: Any, log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """With markers that take some exclusions back, while they last or whenever."""
    marks = [(r.randrange(len(log) + 1), Control(kind="exclusion", name="x", version=1, body="?"))]
    watermarks = [watermark for _, _, watermark in walked(kit, log)]
    for span in spans_of(kit, log):
        lasting = [
            at
            for at, watermark in enumerate(watermarks)
            if watermark is not None and span.since <= watermark < span.until
        ]
        for _ in range(r.choice([0, 0, 1, 2])):
            undone = Undone(undone_at=r.randrange(1, 1000), undone_by="ada", note=None)
            at = r.choice(lasting or [len(log)]) if r.random() < 0.7 else r.randrange(len(log) + 1)
            marks.append((at, undone.control(span.anomaly_id)))
    log = list(log)
    for at, marked in sorted(marks, key=lambda one: one[0], reverse=True):
        appended = log[min(at, len(log) - 1)]["appended"] if log else kit.start
        log.insert(at, {**marker(marked), "appended": appended})
    return log


def walked(kit: Any, log: list[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], str, int | None]]:
    """Records with their fates and the watermark before each."""
    watermark: int | None = None
    for record, fate in zip(log, kit.decide(log, kit.lateness)[0], strict=True):
        yield record, fate, watermark
        time = record["timestamp"]
        if fate == "tick" and time != MARKER_TIME:
            time = min(time, record["appended"])
        if fate in ("accepted", "tick") and time != MARKER_TIME:
            watermark = time if watermark is None else max(watermark, time)


def spans_of(kit: Any, log: list[dict[str, Any]]) -> list[Span]:
    """All that there are, of a partition's whole log."""
    bad: dict[str, set[int]] = defaultdict(set)
    steps = list(walked(kit, log))
    for record, fate, watermark in steps:
        if fate != "accepted" or record.get("consent_analytics") is False:
            continue
        start = record["timestamp"] // MINUTE * MINUTE
        prompt = watermark is None or watermark < start + MINUTE + SETTLE
        if prompt and (record.get("duration_ms") or 0) > 86_400_000:
            bad[record["user_id"]].add(start)
    found = []
    for user, minutes in bad.items():
        flags: list[list[int]] = []
        for minute in sorted(minutes):
            if flags and minute < flags[-1][-1] + 4 * MINUTE:
                flags[-1].append(minute)
            else:
                flags.append([minute])
        for flag in flags:
            anomaly_id = id_of(f"user {user}|{DETECTOR}|{flag[0]}")
            since, until = flag[0] + MINUTE + SETTLE, flag[-1] + 4 * MINUTE + SETTLE
            for record, _, watermark in steps:
                if "control" in record and watermark is not None:
                    marked = control.of_text(record["control"])
                    is_it = marked.kind == "exclusion" and marked.name == anomaly_id
                    if is_it and since <= watermark < until:
                        until = watermark + 1
            found.append(Span(user, anomaly_id, since, until))
    return found


def is_out(spans: Sequence[Span], event: dict[str, Any]) -> bool:
    return event.get("consent_analytics") is not False and any(
        span.user == event["user_id"] and span.since <= event["timestamp"] < span.until
        for span in spans
    )


def without(kit: Any, log: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The log as metrics take it: time passes where an event was left out."""
    spans, kept = spans_of(kit, log), []
    for record, fate, _ in walked(kit, log):
        if fate == "accepted" and is_out(spans, record):
            place = {"timestamp": record["timestamp"], "appended": record["appended"]}
            kept.append({"event_type": "tick", **place})
        elif fate in ("accepted", "tick"):
            kept.append(record)
    return kept


def a_pipeline(kit: Any, logs: list[list[dict[str, Any]]], policies: Any = EXCLUDE) -> Any:
    registry = open_registry("mock://metrics")
    pipeline = kit.pipeline(
        branches=lambda: (
            UserWatch(registry, lateness_ms=kit.lateness, policies=policies),
            ExposureBranch(registry, partitions=kit.partitions, lateness_ms=kit.lateness),
        )
    )
    for topic in ("experiment-partials", "anomalies", "actions"):
        pipeline.topics[topic] = [[] for _ in range(kit.partitions)]
    pipeline.fill(logs)
    return pipeline


def last(pipeline: Any, topic: str) -> list[dict[str, Any]]:
    """The last row of each key."""
    rows = {m.key(): m.value() for log in pipeline.topics[topic] for m in log}
    return [pipeline.codec.decode(value).record for value in rows.values() if value is not None]


def again(kit: Any, logs: list[list[dict[str, Any]]], rows: list[dict[str, Any]]) -> Experiments:
    """What verify makes of the logs and of these actions, whose spans it holds to their flags."""
    exclusions = Exclusions(lateness_ms=kit.lateness, consent_denied=False)
    exclusions.believe(rows)
    fold = Experiments(consent_denied=False, exclusions=exclusions)
    for partition, log in enumerate(logs):
        for offset, (record, fate, _) in enumerate(walked(kit, log)):
            if fate == "tick" and record["timestamp"] != MARKER_TIME:
                exclusions.tick(partition, min(record["timestamp"], record["appended"]))
            for each in (exclusions, fold):
                if "control" in record:
                    each.control(partition, offset, control.of_text(record["control"]))
                elif fate == "accepted":
                    each.event(partition, offset, record)
    for row in rows:
        flag = {name: row[name] for name in ("started_at", "ended_at", "severity")}
        assert not list(exclusions.problems(row, flag)), row
        for name in ("excluded_from", "excluded_until"):
            wrong = {**row, name: (row[name] or 0) + MINUTE}
            assert list(exclusions.problems(wrong, flag))
    return fold


def partials(pipeline: Any) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for row in last(pipeline, "experiment-partials"):
        place = (row["source_partition"], row["experiment"])
        if row["metric"] is None:
            found[place] = row["users"] or 0
        elif row["users"]:
            found[(*place, row["variant"], row["metric"])] = statistics_of(row)
    return found


@pytest.mark.parametrize("checkpoints", [False, True])
@settings(
    max_examples=4,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    phases=[Phase.generate],
)
@given(seed=st.integers(0, 10**9), size=st.integers(30, 110))
def test_whatever_happens_to_the_worker_who_is_excluded_counts_nowhere(
    kit: Any, checkpoints: bool, seed: int, size: int
) -> None:
    r = random.Random(seed)
    logs = [a_log(r, kit.start, size, p) for p in range(kit.partitions)]
    logs = [undoing(r, kit, log) for log in logs]
    pipeline = a_pipeline(kit, logs)
    pipeline.disturb(r, 30, checkpoints=checkpoints)
    pipeline.finish()
    bare = [without(kit, log) for log in logs]
    assert kit.seen(pipeline.metrics()) == kit.expected(bare, kit.definitions)

    rows = last(pipeline, "actions")
    spans = {span.anomaly_id: span for log in logs for span in spans_of(kit, log)}
    ends = [kit.decide(log, kit.lateness)[1] or 0 for log in logs]
    for row in rows:
        span, end = spans[row["anomaly_id"]], ends[row["partition"]]
        assert (row["user_id"], row["excluded_from"]) == (span.user, span.since)
        is_over = span.until <= end or row["undone_at"] is not None
        assert row["excluded_until"] == (span.until if is_over else None)
    known = {s.anomaly_id for s in spans.values() if s.since <= ends[int(s.user[0])]}
    assert {row["anomaly_id"] for row in rows} == known

    fold = again(kit, logs, rows)
    assert partials(pipeline) == {**fold.excluded(), **fold.statistics()}
    shown = {
        (row["experiment"], row["user_id"]): Shown(row["exposed_at"], json.loads(row["variants"]))
        for row in last(pipeline, "exposures")
    }
    assert shown == fold.exposures()


def test_the_fates_say_how_many_were_excluded_and_a_policy_that_went_lets_spans_run_out(
    kit: Any,
) -> None:
    def at(minute: float, number: int, **more: Any) -> dict[str, Any]:
        time = kit.start + int(minute * MINUTE)
        event = {"event_type": "request", "event_id": str(number), "user_id": "u"}
        return {**event, "timestamp": time, "appended": time, "duration_ms": 5.0, **more}

    bad = at(0, 0, duration_ms=1e9)
    late = at(1.5, 1)  # before the span: counts, though it comes when everything is known
    first = [bad, at(2, 2), at(3, 3, consent_analytics=False), {**late, "appended": kit.start}]
    then = [at(4, 4), at(5, 5), at(6, 6)]
    pipeline = a_pipeline(kit, [first, []])
    pipeline.finish()
    assert pipeline.source.task.fates[0, "excluded"] == 1
    assert pipeline.source.task.fates[0, "accepted"] == 3
    pipeline.branches = a_pipeline(kit, [], load_policies(None, builtin())).branches
    pipeline.restart(pipeline.source)
    pipeline.fill([then])
    pipeline.finish()
    # Clear at minute 4, settled at 5: from then on the user counts.
    assert pipeline.source.task.fates[0, "excluded"] == 1
    assert pipeline.source.task.fates[0, "accepted"] == 2
    [row] = last(pipeline, "actions")
    assert row["excluded_until"] == kit.start + 5 * MINUTE
    assert (row["rate"], row["ended_at"]) == (None, kit.start + MINUTE)


def test_what_is_not_read_again_is_forgotten(kit: Any) -> None:
    request = {"event_type": "request", "event_id": "1", "user_id": "u", "duration_ms": 1e9}
    log = [{**request, "timestamp": kit.start, "appended": kit.start}]
    pipeline = a_pipeline(kit, [log, []])
    pipeline.finish()
    for minute in range(3, 45, 3):
        time = kit.start + minute * MINUTE
        pipeline.fill([[{"event_type": "tick", "timestamp": time, "appended": time}]])
        pipeline.finish()
        if minute == 3:
            assert pipeline.source.task._branches[0]._state.spans
    assert not pipeline.source.task._branches[0]._state.spans
    assert not last(pipeline, "anomaly-users")
    assert len(pipeline.topics["actions"][0]) == 2, "begun and over"
