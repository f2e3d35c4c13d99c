"""Both stages together, on logs of every kind: what comes out depends on the logs alone."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

RELAXED = settings(
    max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


def some_log(r: random.Random, start: int, size: int, user: str) -> list[dict[str, Any]]:
    """Two hours or so of events: out of order, repeated, late, from the future, and ticks."""
    log: list[dict[str, Any]] = []
    now = start + r.randrange(3_600_000)
    for _ in range(size):
        now += r.choice([0, 1_000, 20_000, 90_000, 90_000, 700_000 if r.random() < 0.1 else 0])
        time = now - r.choice([0, 0, 0, 5_000, 70_000, 400_000, 650_000])
        kind = r.choice(["page_view", "page_view", "rating", "request", "tick", "again"])
        appended = now + 1_000
        if kind == "tick":
            ahead = 90_000_000 if r.random() < 0.02 else 0  # the clock of its writer
            log.append({"event_type": "tick", "timestamp": now + ahead, "appended": appended})
            continue
        earlier = [e for e in log[-12:] if e["event_type"] != "tick"]
        if kind == "again" and earlier:
            again = dict(r.choice(earlier), appended=appended)
            if r.random() < 0.3:
                again["timestamp"] = time
            log.append(again)
            continue
        event = {
            "event_type": kind if kind != "again" else "search",
            "event_id": f"{start}-{r.randrange(10**9)}" if r.random() < 0.95 else "the same",
            "user_id": f"{user}-{r.randrange(5)}",  # users live in one partition
            "timestamp": time + (400_000 if r.random() < 0.03 else 0),
            "appended": appended,
            "consent_analytics": r.choice([None, None, True, False]),
            "device_type": r.choice([None, "mobile", "tv"]),
        }
        if kind == "page_view":
            event["page_url"] = r.choice([None, "/a", "/a?b=c", "/b#x", '/"é\n'])
            event["response_size_bytes"] = r.choice([None, 0, 7, 2**40])
            event["status"] = r.choice([None, 200])
        if kind == "rating":
            event["score"] = r.choice([None, -1.5, 0.1, 0.2, 4.0])
        if kind == "request":
            event["duration_ms"] = r.choice([None, 0.0, 0.5, 12.0, 1e6])
            event["cache_hit"] = r.choice([None, True, False])
        log.append(event)
    return log


def drive(
    pipeline: Any, r: random.Random, steps: int, failures: bool, checkpoints: bool = False
) -> None:
    """Any schedule at all."""
    for _ in range(steps):
        stage = r.choice([pipeline.source, pipeline.merge])
        if checkpoints:
            some = {p for p in range(pipeline.partitions) if r.random() < 0.4}
            pipeline.checkpoint(stage, some)
            if r.random() < 0.3:
                pipeline.stand_by(stage)
            if r.random() < 0.1:
                stage.checkpoints.clear()
        pipeline.some_batch(stage, r)
        abort, restart, move = (0.6, 0.8, 0.9) if failures else (0.0, 0.0, 0.0)
        pipeline.some_end(stage, r, abort=abort, restart=restart, move=move)
    pipeline.finish()


@RELAXED
@given(seed=st.integers(0, 10**9), size=st.integers(0, 120))
def test_the_result_is_what_plain_python_makes_of_the_logs(kit: Any, seed: int, size: int) -> None:
    r = random.Random(seed)
    logs = [some_log(r, kit.start, size, f"user-{p}") for p in range(kit.partitions)]
    pipeline = kit.pipeline()
    pipeline.fill(logs)
    drive(pipeline, r, 6, failures=False)
    assert kit.seen(pipeline.metrics()) == kit.expected(logs, kit.definitions)
    fates = [kit.decide(log, kit.lateness)[0] for log in logs]
    assert dict(pipeline.source.task.fates) == {
        (p, fate): of.count(fate) for p, of in enumerate(fates) for fate in set(of)
    }
    for topic, fate in (("late-events", "late"), ("dead-letters", "future")):
        places = {(row["partition"], row["offset"]) for row in pipeline.letters(topic)}
        wanted = {(p, o) for p, of in enumerate(fates) for o, f in enumerate(of) if f == fate}
        assert places == wanted


@pytest.mark.parametrize(("steps", "checkpoints"), [(25, False), (40, True)])
@RELAXED
@given(seed=st.integers(0, 10**9), size=st.integers(0, 120))
def test_batches_aborts_restarts_moved_partitions_and_checkpoints_change_nothing(
    kit: Any, steps: int, checkpoints: bool, seed: int, size: int
) -> None:
    # checkpoints are of any commit, by workers and standbys
    r = random.Random(seed)
    logs = [some_log(r, kit.start, size, f"user-{p}") for p in range(kit.partitions)]
    pipeline = kit.pipeline()
    pipeline.fill(logs)
    drive(pipeline, r, steps, failures=True, checkpoints=checkpoints)
    assert kit.seen(pipeline.metrics()) == kit.expected(logs, kit.definitions)


def test_dimensions_beyond_what_is_remembered_are_written_as_well(
    kit: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("streamgauge.streams.metrics.plan.KNOWN_TEXTS", 1)
    logs = [some_log(random.Random(p), kit.start, 80, f"user-{p}") for p in range(kit.partitions)]
    pipeline = kit.pipeline()
    pipeline.fill(logs)
    drive(pipeline, random.Random(1), 6, failures=False)
    assert kit.seen(pipeline.metrics()) == kit.expected(logs, kit.definitions)
