"""The first stage of experiments against a plain fold of the whole log."""

from __future__ import annotations

import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from operator import mul
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from streamgauge.cli.verify.experiments import Experiments, Shown, Statistics, statistics_of
from streamgauge.schemas import control
from streamgauge.schemas.experiments import HOUR_MS, Experiment, load_experiment
from streamgauge.schemas.records import MARKER_TIME, Control
from streamgauge.schemas.registry import open_registry
from streamgauge.streams.experiments.branch import ExposureBranch

DEFINITION = """
name: {name}
variants: [{{name: a}}, {{name: b}}]
duration_days: {days}
lookback_days: 1
metrics:
  - {{name: score, role: primary, aggregate: mean, events: [rating], field: score}}
  - {{name: viewed, aggregate: proportion, events: [page_view]}}
  - name: score_per_view
    aggregate: ratio
    numerator: {{events: [rating], field: score}}
    denominator: {{events: [page_view]}}
  - {{name: p90, aggregate: quantile, quantile: 90%, events: [rating], field: score}}
"""
# Of a user: ratings, views; and the same before the exposure.
VALUES = {"score": (0, 2), "viewed": (1, 3), "score_per_view": (0, 1, 2, 3), "p90": (0,)}


def an_experiment(start: int, name: str, days: float) -> Experiment:
    definition = load_experiment(DEFINITION.format(name=name, days=days))
    return Experiment(definition=definition, started_at=start)


def marker(experiment: Experiment, state: str, version: int) -> dict[str, Any]:
    told = Experiment(
        definition=experiment.definition,
        state=state,  # type: ignore[arg-type]
        started_at=None if state == "created" else experiment.started_at,
    )
    marked = Control(kind="experiment", name=experiment.name, version=version, body=told.body())
    return {"event_type": "tick", "timestamp": MARKER_TIME, "control": control.text(marked)}


def a_log(r: random.Random, start: int, size: int, partition: int) -> list[dict[str, Any]]:
    """Some hours: out of order, repeated, late, denied; experiments come and go."""
    experiments = [an_experiment(start, "one", 1000), an_experiment(start, "two", 0.5)]
    states = {"one": 0, "two": 0}
    log: list[dict[str, Any]] = []
    now = start
    for number in range(size):
        now += r.choice([0, 1_000, 20_000, 90_000, 7_000_000 if r.random() < 0.1 else 0])
        place = {"appended": now + 1_000}
        kind = r.choice(["rating", "rating", "page_view", "shown", "shown", "tick", "again"])
        if number in (3, 8, 20) or r.random() < 0.02:
            one = r.choice(experiments)
            state = ("created", "running", "stopped")[min(states[one.name], 2)]
            if state != "running" or r.random() < 0.3 or number < 30:
                states[one.name] += 1
            log.append({**marker(one, state, number), **place})
            continue
        if kind == "tick":
            log.append({"event_type": "tick", "timestamp": now, **place})
            continue
        sent = [event for event in log if "user_id" in event]
        if kind == "again" and sent:
            log.append({**r.choice(sent), **place})
            continue
        late = r.choice([0, 0, 5_000, 300_000, 590_000, 650_000])
        event = {"event_id": f"{partition} {number}", "user_id": f"{partition}-{r.randrange(6)}"}
        event |= {"timestamp": now - late, **place}
        if r.random() < 0.1:
            event["consent_analytics"] = False
        if kind == "shown":
            event |= {"event_type": "experiment_exposure"}
            event |= {"experiment_id": r.choice(["one", "two", "none"])}
            event |= {
                "variant": r.choice("aaaaaabbbc")
                if r.random() < 0.3
                else "ab"[len(event["user_id"]) % 2]
            }
        elif kind == "rating":
            event |= {"event_type": "rating", "score": r.choice([0.5, 3.25, -2.0, 9e9, None])}
        else:
            event |= {"event_type": "page_view"}
        log.append(event)
    return log


def folded(kit: Any, log: list[dict[str, Any]]) -> Iterator[tuple[str, str, str, list[int]]]:
    """What is to be known at the end: experiment, user, variant or *, sums."""
    state: dict[str, str] = {}
    told: dict[str, Experiment] = {}
    exposures: dict[tuple[str, str], list[tuple[int, str]]] = defaultdict(list)
    events: list[dict[str, Any]] = []
    collected: dict[str, int] = {}
    for offset, (record, fate) in enumerate(
        zip(log, kit.decide(log, kit.lateness)[0], strict=True)
    ):
        if "control" in record:
            marked = control.of_text(record["control"])
            name, new = marked.name, json.loads(marked.body or "")["state"]
            if state.get(name) == "stopped" or (new == "stopped" and name not in state):
                continue
            if state.get(name) == "running" and new == "created":
                continue
            state[name] = new
            told.setdefault(name, an_experiment(kit.start, name, 1000 if name == "one" else 0.5))
            for each in ("rating", "page_view"):
                in_use = any(s != "stopped" for s in state.values())
                if in_use:
                    collected.setdefault(each, offset)
                else:
                    collected.pop(each, None)
            if new == "stopped":
                for place in [p for p in exposures if p[0] == name]:
                    del exposures[place]
        if fate != "accepted" or record.get("consent_analytics") is False:
            continue
        kind = record["event_type"]
        if kind == "experiment_exposure":
            name = record["experiment_id"]
            time, running = record["timestamp"], state.get(name) == "running"
            if running and time < (told[name].end or 0) and record["variant"] in "ab":
                exposures[name, record["user_id"]].append((time, record["variant"]))
        elif offset > collected.get(kind, 10**9):
            events.append({**record, "since": collected[kind]})
    for (name, user), shown in exposures.items():
        first, end = min(shown)[0], told[name].end or 0
        sums = [0, 0, 0, 0]
        for event in events:
            if event["user_id"] != user or event["since"] != collected[event["event_type"]]:
                continue
            is_view = event["event_type"] == "page_view"
            score = event.get("score")
            value = 1 if is_view else 0 if score is None else round(score * 1_000_000)
            if not is_view and abs(value) > 2**53:
                continue
            if first <= event["timestamp"] < end:
                sums[is_view] += value
            hour, of = event["timestamp"] // HOUR_MS, first // HOUR_MS
            if of - 24 <= hour < of:
                sums[2 + is_view] += value
        variants = {variant for _, variant in shown}
        yield name, user, variants.pop() if len(variants) == 1 else "*", sums


def expected(kit: Any, logs: list[list[dict[str, Any]]]) -> dict[Any, Any]:
    """Of each source partition, experiment, variant and metric: users, sums, products."""
    found: dict[Any, Any] = {}
    lines: dict[Any, list[list[int]]] = {}
    for partition, log in enumerate(logs):
        for name, _, variant, sums in folded(kit, log):
            if variant == "*":
                found[partition, name] = found.get((partition, name), 0) + 1
                continue
            for metric, places in VALUES.items():
                line = [sums[at] for at in places]
                if metric == "viewed":
                    line = [int(value != 0) for value in line]
                place = (partition, name, variant, metric)
                lines.setdefault(place, []).append(line)
    for place, values in lines.items():
        columns = list(zip(*values, strict=True))
        found[place] = Statistics(
            len(values),
            tuple(map(sum, columns)),
            tuple(tuple(sum(map(mul, x, y)) for y in columns) for x in columns),
            tuple(sorted(Counter(map(bucket, columns[0])).items())) if place[3] == "p90" else (),
        )
    return found


def bucket(value: int) -> int:
    """Of an outcome, digit by digit."""
    size, further = abs(value), 0
    while size >= 512:
        size, further = size // 2, further + 1
    return (256 * further + size) * (-1 if value < 0 else 1)


def partials(pipeline: Any, *, stopped: bool = False) -> dict[Any, Any]:
    """The last rows; by default of experiments that have not been stopped."""
    rows = {}
    for log in pipeline.topics["experiment-partials"]:
        for message in log:
            rows[message.key()] = pipeline.codec.decode(message.value()).record
    wanted = {
        (row["source_partition"], row["experiment"])
        for row in rows.values()
        if row["definition"] and (stopped or json.loads(row["definition"])["state"] != "stopped")
    }
    found: dict[Any, Any] = {}
    for row in rows.values():
        place = (row["source_partition"], row["experiment"])
        if place in wanted and row["users"]:
            if row["metric"] is None:
                found[place] = row["users"]
            else:
                found[(*place, row["variant"], row["metric"])] = statistics_of(row)
    return found


def a_pipeline(kit: Any, logs: list[list[dict[str, Any]]]) -> Any:
    registry = open_registry("mock://metrics")
    pipeline = kit.pipeline(
        branches=lambda: (
            ExposureBranch(registry, partitions=kit.partitions, lateness_ms=kit.lateness),
        )
    )
    pipeline.topics["experiment-partials"] = [[] for _ in range(kit.partitions)]
    pipeline.fill(logs)
    return pipeline


@pytest.mark.parametrize("checkpoints", [False, True])
@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    phases=[Phase.generate],
)
@given(seed=st.integers(0, 10**9), size=st.integers(0, 90))
def test_whatever_happens_to_the_worker_the_figures_are_those_of_a_plain_fold(
    kit: Any, checkpoints: bool, seed: int, size: int
) -> None:
    r = random.Random(seed)
    logs = [a_log(r, kit.start, size, p) for p in range(kit.partitions)]
    pipeline = a_pipeline(kit, logs)
    pipeline.disturb(r, 30, checkpoints=checkpoints)
    pipeline.finish()
    assert partials(pipeline) == expected(kit, logs)
    fold = again(kit, logs)
    users = {place: n for place, n in fold.excluded().items() if n}
    assert partials(pipeline, stopped=True) == {**users, **fold.statistics()}
    assert exposures(pipeline) == fold.exposures()


def test_a_broken_definition_goes_to_the_dead_letters_with_what_is_wrong(kit: Any) -> None:
    one = an_experiment(kit.start, "one", 1000)
    body = json.loads(one.body())
    body["definition"]["metrics"][0]["aggregate"] = "meen"
    broken = [
        Control(kind="experiment", name="one", version=1, body=json.dumps(body)),
        Control(kind="experiment", name="one", version=1, body="no JSON"),
        Control(kind="segments", name="rules", version=2, body="segments: [{nme: x}]"),
        Control(kind="of another day", name="x", version=1, body="?"),
    ]
    tick = {"event_type": "tick", "timestamp": MARKER_TIME, "appended": kit.start}
    log = [{**tick, "control": control.text(each)} for each in broken]
    log += [{**marker(one, "running", 3), "appended": kit.start}]
    shown = {"event_type": "experiment_exposure", "experiment_id": "one", "variant": "a"}
    log += [{**shown, "event_id": "1", "user_id": "u", "timestamp": kit.start + 5}]
    log[-1]["appended"] = kit.start + 5
    pipeline = a_pipeline(kit, [[], log])
    pipeline.finish()
    pipeline.restart(pipeline.source)
    pipeline.finish()
    letters = pipeline.letters("dead-letters")
    assert [(each["partition"], each["offset"]) for each in letters] == [(1, 0), (1, 1), (1, 2)]
    assert {each["reason"] for each in letters} == {"invalid_control"}
    assert "aggregate is 'meen': allowed: 'mean'" in letters[0]["detail"]
    assert pipeline.codec.decode(letters[0]["payload"]).record["control"] == log[0]["control"]
    assert list(exposures(pipeline)) == [("one", "u")], "the worker goes on"


def test_a_partition_tells_once_more_when_an_experiment_is_over(kit: Any) -> None:
    one = an_experiment(kit.start, "one", 0.5)
    over = kit.start + 12 * HOUR_MS + kit.lateness
    view = {"event_type": "page_view", "event_id": "1", "user_id": "u", "page_url": "/"}
    log = [{**marker(one, "running", 1), "appended": kit.start}]
    log += [{**view, "timestamp": kit.start + 5, "appended": kit.start + 5}]
    pipeline = a_pipeline(kit, [log] * kit.partitions)
    for at, told in ((over - 1, over - 1), (over, over), (over + 60_000, over)):
        for partition in range(kit.partitions):
            pipeline.append(partition, {"event_type": "tick", "timestamp": at})
        pipeline.now += 10
        pipeline.read(pipeline.source, dict.fromkeys(range(kit.partitions), 9))
        pipeline.barrier(pipeline.source)
        rows = {
            message.key(): pipeline.codec.decode(message.value()).record
            for log in pipeline.topics["experiment-partials"]
            for message in log
        }
        definitions = [row for row in rows.values() if row["definition"]]
        assert len(definitions) == kit.partitions
        assert {row["watermark"] for row in definitions} == {told}


def again(kit: Any, logs: list[list[dict[str, Any]]]) -> Experiments:
    """What verify makes of the logs."""
    fold = Experiments(consent_denied=False)
    for partition, log in enumerate(logs):
        fates = kit.decide(log, kit.lateness)[0]
        for offset, (record, fate) in enumerate(zip(log, fates, strict=True)):
            if "control" in record:
                fold.control(partition, offset, control.of_text(record["control"]))
            elif fate == "accepted":
                fold.event(partition, offset, record)
    return fold


def exposures(pipeline: Any) -> dict[tuple[str, str], Shown]:
    """The last rows of the topic."""
    last = {m.key(): m.value() for log in pipeline.topics["exposures"] for m in log}
    rows = [pipeline.codec.decode(value).record for value in last.values()]
    assert all(row["variant"] == Shown(0, json.loads(row["variants"])).variant for row in rows)
    return {
        (row["experiment"], row["user_id"]): Shown(row["exposed_at"], json.loads(row["variants"]))
        for row in rows
    }
