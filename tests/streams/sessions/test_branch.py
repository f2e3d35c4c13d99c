"""Sessions in the worker: rows as state, through batches, aborts, restarts and checkpoints."""

import json
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamgauge.cli.backtest.sessions import SessionTables
from streamgauge.schemas.consent_columns import identifiable_rows
from streamgauge.schemas.registry import Registry, open_registry
from streamgauge.streams.branch import Accepted, Branch
from streamgauge.streams.metrics.fate import NONE
from streamgauge.streams.sessions import branch
from streamgauge.streams.sessions.branch import SessionBranch
from streamgauge.streams.sessions.sessions import MANY, Settings
from streamgauge.streams.sessions.splitting import GAP_MS
from tests.streams.sessions import oracle

MINUTE = 60_000
OWN = {"emitted_offset", "entry_at", "entry_id", "exit_at", "exit_id", "plays", "parts"}
TABLES = {"sessions": ("user_key",), "device-sessions": ("user_key", "device_type")}


def make(kit: Any) -> Any:
    """A worker with sessions."""
    rule = identifiable_rows("granted")
    registry = open_registry("mock://metrics")
    settings = Settings(lateness=kit.lateness, identifiable=rule)
    return kit.pipeline(branches=lambda: (SessionBranch(settings, registry),))


def table(pipeline: Any, topic: str) -> dict[tuple[int, bytes], dict[str, Any]]:
    """The latest rows, by partition and key; what is final never changes."""
    rows: dict[tuple[int, bytes], dict[str, Any]] = {}
    for partition, log in enumerate(pipeline.topics[topic]):
        for message in log:
            place = partition, message.key()
            was = rows.pop(place, None)
            row = None
            if message.value() is not None:
                row = rows[place] = pipeline.codec.decode(message.value()).record
                names = [row["user_id"], row.get("device_type"), row["started_at"]]
                if topic == "sessions":
                    del names[1]
                assert message.key() == "|".join(str(n or "") for n in names).encode()
            if was and was["is_final"]:
                assert row and told(row) == told(was)
    return rows


def told(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in OWN}


def a_log(r: random.Random, kit: Any, size: int, partition: int) -> list[dict[str, Any]]:
    log: list[dict[str, Any]] = []
    now = kit.start
    for number in range(size):
        now += r.choice([0, 1_000, 90_000, 600_000, 1_500_000, 1_801_000])
        place = {"appended": now + 1_000}
        kind = r.random()
        if kind < 0.1:
            log.append({"event_type": "tick", "timestamp": now, **place})
            continue
        if kind < 0.2 and log and log[-1]["event_type"] != "tick":
            log.append({**log[-1], **place})
            continue
        event: dict[str, Any] = {
            "event_id": f"{r.randrange(10)}-{number}",
            "user_id": f"user-{partition}-{r.randrange(3)}|",
            "timestamp": now - r.choice([0, 0, 5_000, 400_000, 650_000]),
            "device_type": r.choice([None, "tv", "mobile"]),
            "page_url": r.choice([None, "/a?x", "/b"]),
            "consent_analytics": r.choice([None, None, None, True, False]),
            "event_type": r.choice(["page_view", "form_submit", "playback"]),
        }
        if event["event_type"] == "playback":
            event |= {"action": r.choice(["complete", "skip"]), "series_id": r.choice([None, "s"])}
            event |= {"episode": r.choice([None, "1", "2", "3"]), "item_id": "i"}
        log.append({**event, **place})
    return log


def expected(kit: Any, logs: list[list[dict[str, Any]]], by: tuple[str, ...]) -> list[dict]:
    empty = {"action": None, "series_id": None, "episode": None, "item_id": None}
    found = []
    for log in logs:
        fates, watermark = kit.decide(log, kit.lateness)
        events = [
            empty | record | {"user_key": record["user_id"]}
            for record, fate in zip(log, fates, strict=True)
            if fate == "accepted" and record["consent_analytics"] is not False
        ]
        floor = NONE if watermark is None else (watermark - kit.lateness) // MINUTE * MINUTE
        for row in oracle.sessions(events, by):
            final = (
                row["ended_at"] + GAP_MS < floor or row["started_at"] + 24 * 60 * MINUTE <= floor
            )
            if "device_type" not in by:
                del row["device_type"]
            found.append(row | {"is_final": final})
    return by_text(found)


@pytest.mark.parametrize("many", [4, MANY])
@pytest.mark.parametrize("checkpoints", [False, True])
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(seed=st.integers(0, 10**9), size=st.integers(20, 80))
def test_whatever_happens_to_the_worker_the_topics_hold_the_oracles_sessions(
    kit: Any, monkeypatch: Any, checkpoints: bool, many: int, seed: int, size: int
) -> None:
    monkeypatch.setattr(branch, "MANY", many)
    r = random.Random(seed)
    logs = [a_log(r, kit, size, p) for p in range(kit.partitions)]
    pipeline = make(kit)
    pipeline.fill(logs)
    pipeline.disturb(r, 30, checkpoints=checkpoints)
    pipeline.finish()
    for topic, by in TABLES.items():
        assert by_text(map(told, table(pipeline, topic).values())) == expected(kit, logs, by)


class Backtest(Branch):
    """The tables of `backtest`, of the same batches."""

    columns = SessionBranch.columns

    def __init__(self, settings: Settings, registry: Registry) -> None:
        self._sessions = SessionBranch(settings, registry)
        self.sessions = SessionTables()

    def process(self, accepted: Accepted) -> None:
        self._sessions.process(accepted)
        self.sessions.take(self._sessions.told())
        self._sessions.commit()


def test_the_live_tables_are_those_of_a_backtest(kit: Any) -> None:
    r = random.Random(1)
    logs = [a_log(r, kit, 200, p) for p in range(kit.partitions)]
    rule = identifiable_rows("granted")
    both = Settings(lateness=kit.lateness, identifiable=rule)
    registry = open_registry("mock://metrics")
    file = Backtest(both, registry)
    pipeline = kit.pipeline(branches=lambda: (SessionBranch(both, registry), file))
    pipeline.fill(logs)
    for _ in range(8):
        pipeline.now += 1
        pipeline.read(pipeline.source, dict.fromkeys(range(kit.partitions), 30))
        pipeline.barrier(pipeline.source)
    pipeline.finish()
    for name, rows in file.sessions.tables().items():
        live = table(pipeline, name.replace("_", "-")).values()
        assert len(live) == rows.height > 50
        assert by_text(map(told, live)) == by_text(rows.to_dicts())


def by_text(rows: Any) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))
