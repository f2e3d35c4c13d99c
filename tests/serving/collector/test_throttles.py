"""Users who are held to a rate: which actions are in force, and what the collector answers then."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from confluent_kafka import Producer

from streamgauge.schemas.anomaly_records import Action
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.ids import now_ms
from streamgauge.schemas.records import MARKER_TIME
from streamgauge.schemas.registry import open_registry
from streamgauge.serving.collector.settings import CollectorConfig
from streamgauge.serving.collector.throttles import Throttles

from .conftest import DEADLINE, Running


def action(**fields: Any) -> dict[str, Any]:
    known = {
        "action": "throttle",
        "user_id": "bot",
        "anomaly_id": "a1",
        "detector": "cap",
        "severity": "red",
        "rate": 0.0,
        "started_at": MARKER_TIME,
        "ended_at": None,
        "undone_at": None,
        "undone_by": None,
        "note": None,
    }
    return {**known, **fields}


def test_a_rate_is_events_a_minute_with_a_burst_of_ten_seconds() -> None:
    throttles = Throttles()
    throttles.tell(b"1", action(rate=60.0))
    assert [throttles.refuses("bot", 100.0) for _ in range(12)] == [None] * 10 + [60.0] * 2
    assert throttles.refuses("bot", 101.5) is None
    assert throttles.refuses("ann", 100.0) is None


def test_the_least_rate_in_force_counts_and_none_when_all_are_over() -> None:
    throttles = Throttles()
    throttles.tell(b"1", action(rate=60.0))
    throttles.tell(b"2", action(anomaly_id="a2", rate=0.0))
    throttles.tell(b"3", action(anomaly_id="a3", user_id="ann", action="exclude"))
    assert throttles.refuses("bot", 100.0) == 0.0
    throttles.tell(b"2", action(anomaly_id="a2", rate=0.0, undone_at=5))
    assert throttles.refuses("bot", 100.0) is None
    throttles.tell(b"1", action(rate=60.0, ended_at=5))
    assert [throttles.refuses("bot", 100.0) for _ in range(20)] == [None] * 20
    throttles.tell(b"1", action())  # worse again
    assert throttles.refuses("bot", 100.0) == 0.0
    throttles.tell(b"1", None)
    assert throttles.refuses("bot", 100.0) is None
    assert throttles.refuses("ann", 100.0) is None


def test_a_throttled_user_is_answered_drop_until_it_is_undone(
    start: Callable[..., Running], config: CollectorConfig
) -> None:
    running = start()
    codec, topic = Codec(open_registry(config.registry)), f"{config.namespace}.actions"
    producer = Producer({"bootstrap.servers": config.kafka, "log_level": 0})

    def write(value: bytes | None) -> None:
        producer.produce(topic, value, b"throttle|bot|a1")
        assert producer.flush(60) == 0

    def answers() -> list[str]:
        events = [
            {"event_type": "search", "user_id": user, "timestamp": now_ms()}
            for user in ("bot", "ann")
        ]
        sent = running.http.post("/v1/batch", json={"batch": events})
        return [one.get("reason", one["status"]) for one in sent.json()["results"]]

    def until(expected: list[str]) -> None:
        deadline = time.monotonic() + DEADLINE
        while (found := answers()) != expected:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)

    assert answers() == ["ok", "ok"]
    write(b"no action")
    write(codec.encode("actions", Action(**action())))
    until(["throttled: this user is held to 0 events a minute", "ok"])
    write(codec.encode("actions", Action(**action(undone_at=now_ms(), undone_by="me"))))
    until(["ok", "ok"])
