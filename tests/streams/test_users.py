"""Sessions, profiles and segments together: a worker to which everything happens says what one says
that reads the log in one go."""

import json
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from streamgauge.schemas import control
from streamgauge.schemas.records import MARKER_TIME, Control
from streamgauge.schemas.registry import open_registry
from streamgauge.schemas.segments import load_rules
from streamgauge.streams.users import users

HOUR = 3_600_000
REGISTRY = open_registry("mock://metrics")
RULES = """
extends: none
segments:
  - {name: busy, enter: events >= 4, leave: hours_since_last >= 2}
  - {name: back, enter: sessions >= 2 and hours_since_last < 3}
"""
OTHER = """
extends: none
segments:
  - {name: busy, enter: events >= 3, leave: hours_since_last >= 3}
  - {name: bored, enter: hours_since_last >= 1}
"""
TOPICS = ("sessions", "device-sessions", "user-profiles", "user-segments", "segment-counts")
# What depends on when a row was written, not on what it says.
HOW = {"emitted_offset", "entry_at", "entry_id", "exit_at", "exit_id", "plays", "parts"}


def a_log(r: random.Random, start: int, size: int, partition: int) -> list[dict[str, Any]]:
    log: list[dict[str, Any]] = []
    now, version = start, 0
    for number in range(size):
        now += r.choice([0, 1_000, 20_000, 90_000, 600_000, 1_900_000])
        place = {"appended": now + 1_000}
        kind = r.random()
        if kind < 0.1:
            log.append({"event_type": "tick", "timestamp": now, **place})
        elif kind < 0.14:
            version += 1
            body = r.choice([RULES, OTHER, "segments: wrong"])
            change = Control(kind="segments", name="segments", version=version, body=body)
            marker = {"event_type": "tick", "timestamp": MARKER_TIME}
            log.append({**marker, "control": control.text(change), **place})
        else:
            event = {
                "event_type": r.choice(["page_view", "search", "form_submit"]),
                "event_id": f"{r.randrange(10)}-{partition}-{number}",
                "user_id": f"user-{partition}-{r.randrange(4)}",
                "timestamp": now - r.choice([0, 0, 5_000, 400_000, 650_000]),
                "device_type": r.choice([None, "tv"]),
                "consent_analytics": r.choice([None, None, None, False]),
            }
            log.append({**event, **place})
    return log


def pipeline_of(kit: Any, logs: list[list[dict[str, Any]]]) -> Any:
    def branches() -> tuple[Any, ...]:
        rules = load_rules(RULES)
        more = {"lateness_ms": kit.lateness, "consent_default": "granted"}
        return (users(REGISTRY, rules=rules, **more),)

    pipeline = kit.pipeline(branches=branches)
    pipeline.fill(logs)
    return pipeline


def said(pipeline: Any) -> dict[str, Any]:
    """Per topic: what its rows come to, and of moves, which are told once, how many there are."""
    found: dict[str, Any] = {}
    for topic in TOPICS:
        rows: dict[Any, Any] = {}
        moves: list[str] = []
        for log in pipeline.topics[topic]:
            for message in log:
                place = message.partition(), message.key()
                if message.value() is None:
                    rows.pop(place, None)
                    continue
                row = pipeline.codec.decode(message.value()).record
                if topic == "user-profiles":
                    row |= unordered(row)
                rows[place] = {name: value for name, value in row.items() if name not in HOW}
                if "user_id" in row:
                    moves.append(json.dumps(row, sort_keys=True, default=str))
        found[topic] = rows
        if topic == "user-segments":
            found["moves"] = sorted(moves)
    return found


def unordered(row: dict[str, Any]) -> dict[str, Any]:
    """What is counted by name, in the order of the names."""
    size = 24  # three 64-bit numbers of each
    sums = [row["tag_sums"][at : at + size] for at in range(0, len(row["tag_sums"]), size)]
    pairs = sorted(zip(row["tags"], sums, strict=True))
    return {"tags": [name for name, _ in pairs], "tag_sums": [of for _, of in pairs]}


@pytest.mark.parametrize("checkpoints", [False, True])
@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    phases=[Phase.generate],
)
@given(seed=st.integers(0, 10**9), size=st.integers(20, 80))
def test_whatever_happens_to_the_worker_users_are_those_of_one_reading(
    kit: Any, checkpoints: bool, seed: int, size: int
) -> None:
    r = random.Random(seed)
    logs = [a_log(r, kit.start, size, p) for p in range(kit.partitions)]
    at_once = pipeline_of(kit, logs)
    at_once.finish()
    pipeline = pipeline_of(kit, logs)
    pipeline.disturb(r, 25, checkpoints=checkpoints)
    pipeline.finish()
    mine, theirs = said(pipeline), said(at_once)
    for topic, rows in theirs.items():
        assert mine[topic] == rows, topic
    assert size < 60 or theirs["moves"]
