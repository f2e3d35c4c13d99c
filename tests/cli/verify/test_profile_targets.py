"""Profiles, days and links: what the worker wrote is what the fold says, and any other is told."""

import json
import uuid
from collections.abc import Iterator
from contextlib import closing
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest
import redis

from streamgauge.cli.verify.profile_targets import compare_profiles
from streamgauge.cli.verify.redis import Counters
from streamgauge.cli.verify.users import Users
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.segments import builtin
from streamgauge.sinks.redis import profiles as hashes
from streamgauge.sinks.redis.commands import Commands
from tests.streams.profiles.conftest import DAY
from tests.streams.profiles.test_feed import REGISTRY, Worker

START = 20_000 * DAY
EVENTS: list[dict[str, Any]] = [
    {"user_id": "ann", "event_type": "playback", "action": "complete", "genre": "drama"}
    | {"position_ms": 1000.0, "device_type": "tv", "timestamp": START},
    {"user_id": "bob", "event_type": "identify", "anonymous_id": "x", "timestamp": START + 1},
    {"user_id": "bob", "event_type": "task_update", "action": "created", "timestamp": START + 2},
]
NAMES = ["user-profiles", "daily-analytics", "user-links"]


@pytest.fixture
def written() -> Worker:
    worker = Worker()
    worker.process(EVENTS, 0)
    worker.settle()
    return worker


def differences(
    worker: Worker, events: list[dict[str, Any]], counters: Counters | None = None
) -> dict[str, list[str]]:
    users = Users(builtin(), lateness_ms=3_600_000, consent_denied=False)
    for number, event in enumerate(events):
        users.event(0, number, {**event, "event_id": str(number)})
    users.finish()
    log: Any = SimpleNamespace(
        exists=lambda _: True, is_whole=lambda _: True, last_values=worker.topics.__getitem__
    )
    config: Any = SimpleNamespace(topic=lambda name: name)
    compared = compare_profiles(users, config, log, Codec(REGISTRY), None, counters)
    return {one.target: [str(it.expected) for it in one.differences] for one in compared}


def test_equal_folds_are_equal(written: Worker) -> None:
    assert differences(written, EVENTS) == {name: [] for name in NAMES}


def test_an_event_that_is_not_in_the_records_is_told(written: Worker) -> None:
    more = {"user_id": "ann", "event_type": "search", "timestamp": START + 3}
    found = differences(written, [*EVENTS, more])
    assert len(found["user-profiles"]) == 1 and "searches 1" in found["user-profiles"][0]
    assert found["daily-analytics"] == ["events 2"] and found["user-links"] == []


def test_a_user_who_should_not_be_there_is_told(written: Worker) -> None:
    found = differences(written, EVENTS[:1])
    assert found == {name: ["nothing"] for name in NAMES}


@pytest.fixture
def hot(written: Worker, redis_url: str) -> Iterator[tuple[Any, str, Counters]]:
    """The hashes that the sink makes of the records, and what verify reads them by."""
    prefix = f"t-{uuid.uuid4().hex[:8]}:"
    commands = {0: Commands(prefix=f"{prefix}{{user-profiles-0}}:")}
    rows = list(written.table("user-profiles").values())
    columns = pl.DataFrame([{name: row[name] for name in hashes.COLUMNS} for row in rows])
    hashes.apply(columns.with_columns(partition=pl.lit(0)), commands)
    keys = commands[0].keys
    with closing(redis.Redis.from_url(redis_url, decode_responses=True)) as client:
        for name, number, *arguments in json.loads(commands[0].packed):
            client.execute_command(name, keys[number - 3], *arguments)
        client.hset(f"{prefix}{{user-profiles-0}}:fence", "offset", 3)
        with closing(Counters(redis_url, prefix)) as counters:
            yield client, f"{prefix}{{user-profiles-0}}:user:", counters


@pytest.mark.redis
def test_hashes_are_compared_as_well(written: Worker, hot: tuple[Any, str, Counters]) -> None:
    client, key, counters = hot

    def found() -> list[str]:
        return differences(written, EVENTS, counters)["redis.user-profiles"]

    assert found() == []
    client.hset(f"{key}ann", "preferred_genres", "not a list")
    assert found() == ["preferred_genres ['drama']"]
    client.hset(f"{key}ann", mapping={"preferred_genres": '["drama"]', "events": "7"})
    assert found() == ["events 1"]
    client.hset(f"{key}ann", "events", "1")
    client.hset(f"{key}eve", "events", "1")
    client.delete(f"{key}bob")
    assert found() == ["a row", "nothing"]
