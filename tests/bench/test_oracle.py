"""The answers that contenders are held to, against a fold of the very bytes they read."""

import io
import json
from collections.abc import Iterator
from itertools import chain
from typing import Any

import fastavro

from bench import oracle
from bench.events import SCHEMA, Shape, Traffic, one_each, records

TRAFFIC = Traffic(count=3_000, shape=Shape(users=200, pages=5))


def read(traffic: Traffic) -> Iterator[dict[str, Any]]:
    schema = fastavro.parse_schema(json.loads(SCHEMA))
    for part in traffic.chunks():
        for key, value in records(part, 1):
            event = fastavro.schemaless_reader(io.BytesIO(value[5:]), schema)
            assert isinstance(event, dict) and event["user_id"].encode() == key
            yield event | {"ts": round(event["ts"].timestamp() * 1000)}


def test_a_roll_up_is_the_fold_of_the_events() -> None:
    expected: dict[str, dict[str, int]] = {}
    for event in read(TRAFFIC):
        key = f"{event['ts'] // 60_000 * 60_000}|{event['event_type']}|{event['page']}"
        row = expected.setdefault(key, {"count": 0, "sum": 0, "max": 0})
        row["count"] += 1
        row["sum"] += event["duration_ms"] or 0
        row["max"] = max(row["max"], event["duration_ms"] or 0)
    assert oracle.rollup(TRAFFIC.chunks()) == expected


def test_a_profile_is_the_fold_of_the_events() -> None:
    expected: dict[str, dict[str, Any]] = {}
    for event in read(TRAFFIC):
        row = expected.setdefault(event["user_id"], {"events": 0, "sum": 0, "last_ts": 0})
        row["events"] += 1
        row["sum"] += event["duration_ms"] or 0
        row["last_ts"] = max(row["last_ts"], event["ts"])
        row["page"] = event["page"]
    assert oracle.profile(TRAFFIC.chunks()) == expected


def test_a_longer_topic_begins_as_a_shorter_one() -> None:
    longer = Traffic(count=4_000, shape=TRAFFIC.shape)
    assert list(read(longer))[:3_000] == list(read(TRAFFIC))


def test_each_user_has_an_event() -> None:
    answer = oracle.profile(chain(one_each(150), TRAFFIC.chunks()))
    assert {f"u{user:07d}" for user in range(1, 151)} <= answer.keys()


def test_keys_that_differ_are_missing_or_too_many_are_wrong() -> None:
    right = {"a": {"count": 1}, "b": {"count": 2}, "c": {"count": 3}}
    found = {"a": {"count": 1}, "b": {"count": 3}, "d": {"count": 3}}
    assert oracle.wrong(right, right) == 0
    assert oracle.wrong(right, found) == 3
