"""A branch whose output is its changelog, through batches, aborts, restarts and checkpoints."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamgauge.schemas import control
from streamgauge.schemas.records import MARKER_TIME, Control
from streamgauge.streams.branch import Accepted, Branch, Horizon
from streamgauge.streams.engine.task import Output

State = dict[tuple[int, str], dict[str, Any]]


class Counting(Branch):
    """Events of each user, weighted by what the control before them says; told every 5 s."""

    changelogs = ("counts",)
    columns = frozenset({"page_url"})
    identity = "counting"

    def __init__(self) -> None:
        self._state: State = {}
        self._stable: State = {}
        self._told_at = float("-inf")

    def process(self, accepted: Accepted) -> None:
        places = accepted.frame.select("partition", "offset", "user_key", "timestamp").rows()
        marks = [(c.partition, c.offset, None, c.control.version) for c in accepted.controls]
        state = dict(self._state)
        for partition, offset, user, value in sorted([*places, *marks], key=lambda one: one[:2]):
            if user is None:
                state[partition, ""] = {"weight": value, "offset": offset, "unsaved": (offset, 0)}
                continue
            weight = state.get((partition, ""), {}).get("weight", 1)
            row = state.get((partition, user), {"events": 0, "offset": -1, "unsaved": None})
            if offset > row["offset"]:
                first = row["unsaved"] or (offset, value)
                unsaved = (first[0], min(first[1], value))
                count = row["events"] + weight
                row = {"events": count, "offset": offset, "unsaved": unsaved}
                state[partition, user] = row
        self._state = state

    replay = process

    @property
    def settled(self) -> bool:  # type: ignore[override]
        return not any(row["unsaved"] for row in self._state.values())

    def flush(self, now: float, horizons: Mapping[int, Horizon]) -> Iterable[Output]:
        new = any(row["unsaved"] for (_, user), row in self._state.items() if not user)
        due = new or now >= self._told_at + 5
        state = dict(self._state)
        for (partition, user), row in self._state.items():
            horizon = horizons[partition]
            if row["unsaved"] is None:
                continue
            offset, timestamp = row["unsaved"]
            if due or offset < horizon.offset or timestamp <= horizon.timestamp:
                row = state[partition, user] = {**row, "unsaved": None}
                yield Output(
                    topic="counts",
                    keys=[user.encode()],
                    values=[json.dumps(row).encode()],
                    partitions=partition,
                )
        self._state = state
        if due:
            self._told_at = now

    def commit(self) -> None:
        self._stable = self._state

    def abort(self) -> None:
        self._state = self._stable
        self._told_at = float("-inf")

    def restore(
        self, changelog: str, keys: list[bytes], values: list[bytes | None], partition: int
    ) -> None:
        for key, value in zip(keys, values, strict=True):
            assert value is not None
            self._state[partition, key.decode()] = json.loads(value)

    def revoke(self, partitions: set[int]) -> None:
        self._state = {place: r for place, r in self._state.items() if place[0] not in partitions}
        self._stable = {place: r for place, r in self._stable.items() if place[0] not in partitions}

    def snapshot(self) -> Callable[[int], bytes]:
        rows = self._stable.items()
        return lambda partition: json.dumps(
            [[u, r] for (p, u), r in rows if p == partition]
        ).encode()

    def load(self, partition: int, snapshot: memoryview) -> bool:
        for user, row in json.loads(bytes(snapshot)):
            self._state[partition, user] = row
        return True


def counts(pipeline: Any) -> dict[tuple[int, str], int]:
    return {
        (message.partition(), message.key().decode()): json.loads(message.value())["events"]
        for log in pipeline.topics["counts"]
        for message in log
        if message.key()
    }


def a_log(r: random.Random, start: int, size: int, user: str) -> list[dict[str, Any]]:
    """Some hours of events: out of order, repeated, late, ticks, and what changes the weight."""
    log: list[dict[str, Any]] = []
    now = start
    for number in range(size):
        now += r.choice([0, 1_000, 20_000, 90_000, 700_000 if r.random() < 0.1 else 0])
        kind = r.choice(["search", "search", "search", "tick", "control", "again"])
        place = {"appended": now + 1_000}
        if kind == "tick":
            log.append({"event_type": "tick", "timestamp": now, **place})
        elif kind == "control":
            marked = control.text(Control(kind="k", name="n", version=number, body=None))
            log.append({"event_type": "tick", "timestamp": MARKER_TIME, "control": marked, **place})
        elif kind == "again" and log and log[-1]["event_type"] == "search":
            log.append({**r.choice([e for e in log if e["event_type"] == "search"]), **place})
        else:
            event = {"event_type": "search", "event_id": f"{user} {number}"}
            event |= {"user_id": f"{user}-{r.randrange(5)}"}
            late = r.choice([0, 0, 5_000, 400_000, 650_000])
            log.append({**event, "timestamp": now - late, **place})
    return log


def expected(kit: Any, logs: list[list[dict[str, Any]]]) -> dict[tuple[int, str], int]:
    wanted: dict[tuple[int, str], int] = {}
    for partition, log in enumerate(logs):
        weight = 1
        for record, fate in zip(log, kit.decide(log, kit.lateness)[0], strict=True):
            if "control" in record:
                weight = control.of_text(record["control"]).version
            if fate == "accepted":
                place = partition, record["user_id"]
                wanted[place] = wanted.get(place, 0) + weight
    return wanted


@pytest.mark.parametrize("checkpoints", [False, True])
@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(seed=st.integers(0, 10**9), size=st.integers(0, 150))
def test_whatever_happens_to_the_worker_a_branch_counts_each_accepted_event_once(
    kit: Any, checkpoints: bool, seed: int, size: int
) -> None:
    r = random.Random(seed)
    logs = [a_log(r, kit.start, size, f"user-{p}") for p in range(kit.partitions)]
    pipeline = kit.pipeline(branches=lambda: (Counting(),))
    pipeline.fill(logs)
    pipeline.disturb(r, 30, checkpoints=checkpoints)
    pipeline.finish()
    assert counts(pipeline) == expected(kit, logs)
