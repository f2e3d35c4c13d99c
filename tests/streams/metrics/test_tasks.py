"""The tasks at the engine's hand: what they write, when they hold back, what they restore."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest

from streamgauge.schemas.metrics import load_definitions
from streamgauge.schemas.registry import open_registry
from streamgauge.streams.metrics.outputs import partition_of
from streamgauge.streams.metrics.tasks import MetricMerge, MetricSource

MINUTE, HOUR = 60_000, 3_600_000
ONE = "extends: none\nmetrics: [{name: events, aggregate: count}]"
USERS = "extends: none\nmetrics: [{name: people, aggregate: distinct_users}]"


@pytest.fixture
def start(kit: Any) -> int:
    return kit.start


def search(time: int, user: str = "u", **fields: Any) -> dict[str, Any]:
    event = {"event_type": "search", "user_id": user, "timestamp": time}
    return event | {"event_id": f"{user} {time}"} | fields


def tick(time: int) -> dict[str, Any]:
    return {"event_type": "tick", "timestamp": time}


def run(pipeline: Any) -> dict[tuple[str, int], tuple[float, bool]]:
    """Read all that is there; (size, start) -> (value, final) of the only series."""
    for stage in (pipeline.source, pipeline.merge):
        logs = pipeline.topics[stage.task.topic]
        pipeline.read(stage, {p: len(log) for p, log in enumerate(logs)})
        pipeline.barrier(stage)
    rows = pipeline.metrics().values()
    return {(r["window_size"], r["window_start"]): (r["values"][0], r["is_final"]) for r in rows}


def test_a_window_is_final_once_every_partition_has_passed_its_end_and_the_lateness(
    kit: Any, start: int
) -> None:
    #  partition 0   x......|..........L..........|tick
    #  partition 1   ..................................tick 1 ms short, then there
    pipeline = kit.pipeline(load_definitions(ONE))
    end = start + MINUTE + kit.lateness
    pipeline.append(0, search(start + 5))
    assert run(pipeline)["1m", start] == (1, False)
    pipeline.append(0, tick(end))
    assert run(pipeline)["1m", start] == (1, False)
    pipeline.append(1, tick(end - 1))
    assert run(pipeline)["1m", start] == (1, False)
    pipeline.append(1, tick(end))
    assert run(pipeline)["1m", start] == (1, True)
    assert [r["watermark"] for r in pipeline.metrics().values() if r["is_final"]] == [end]


def test_nothing_is_written_when_nothing_changed(kit: Any, start: int) -> None:
    pipeline = kit.pipeline()
    pipeline.append(0, search(start))
    pipeline.append(1, search(start))
    run(pipeline)
    pipeline.now += 10
    run(pipeline)
    sizes = {name: sum(map(len, logs)) for name, logs in pipeline.topics.items()}
    pipeline.now += 10
    run(pipeline)
    assert {name: sum(map(len, logs)) for name, logs in pipeline.topics.items()} == sizes
    assert pipeline.source.task.settled
    assert pipeline.merge.task.settled


def test_hours_and_users_are_held_back_for_seconds(kit: Any, start: int) -> None:
    pipeline = kit.pipeline(load_definitions(USERS))
    # First things go out at once, as does the first changelog entry.
    pipeline.append(0, search(start, "a"))
    assert run(pipeline) == {
        ("1m", start): (1, False),
        ("1h", start): (1, False),
        ("1d", start): (1, False),
    }
    pipeline.append(0, search(start, "b"))
    assert run(pipeline)["1m", start] == (2, False)
    assert run(pipeline)["1h", start] == (1, False)
    assert not pipeline.source.task.settled
    pipeline.now += 10
    assert run(pipeline)["1h", start] == (2, False)
    assert pipeline.source.task.settled


def test_the_last_users_of_a_window_get_out_when_it_closes(kit: Any, start: int) -> None:
    pipeline = kit.pipeline(load_definitions(USERS))
    pipeline.append(0, search(start, "a"))
    run(pipeline)
    pipeline.append(0, search(start + 9, "b"))
    for partition in (0, 1):
        pipeline.append(partition, tick(start + HOUR + kit.lateness))
    assert run(pipeline)["1h", start] == (2, True)


def test_closed_windows_leave_state_and_changelogs(kit: Any, start: int) -> None:
    pipeline = kit.pipeline()
    pipeline.append(0, search(start, "a"))
    run(pipeline)
    for partition in (0, 1):
        pipeline.append(partition, tick(start + 24 * HOUR + kit.lateness))
    run(pipeline)
    source, merge = pipeline.source.task._state, pipeline.merge.task._state
    assert (len(source.rows), len(source.entries), len(source.seen), len(source.ids)) == (0,) * 4
    assert (source.sketches, source.originals, len(merge.rows)) == ({}, {}, 0)
    for changelog in ("metric-users", "metric-rollups"):
        last = {m.key(): m.value() for log in pipeline.topics[changelog] for m in log}
        assert last
        assert not any(last.values())


def test_sketches_are_written_every_half_lateness_and_not_more_often(kit: Any, start: int) -> None:
    pipeline = kit.pipeline(load_definitions(USERS))
    written = []
    for second in range(0, 1_200, 60):
        pipeline.append(0, search(start + second * 1000, f"user {second}"))
        run(pipeline)
        written.append(len(pipeline.topics["metric-users"][0]))
    changes = [n for n, (one, two) in enumerate(pairwise(written)) if one != two]
    assert written[0] == 2
    assert changes == [4, 9, 14]  # five minutes each


def test_late_events_keep_their_bytes_and_say_why(kit: Any, start: int) -> None:
    pipeline = kit.pipeline()
    pipeline.append(1, search(start + HOUR))
    pipeline.append(1, search(start, "slow", user_id=None, anonymous_id="a"))
    run(pipeline)
    [late] = pipeline.letters("late-events")
    original = pipeline.topics["events"][1][1]
    assert late == {
        "topic": "events",
        "partition": 1,
        "offset": 1,
        "event_id": f"slow {start}",
        "event_type": "search",
        "user_id": "a",
        "timestamp": start,
        "watermark": start + HOUR,
        "schema_id": int.from_bytes(original.value()[1:5], "big"),
        "payload": original.value(),
    }


def test_events_from_the_future_become_dead_letters(kit: Any, start: int) -> None:
    pipeline = kit.pipeline()
    pipeline.append(0, search(start + HOUR), start)
    run(pipeline)
    [letter] = pipeline.letters("dead-letters")
    original = pipeline.topics["events"][0][0]
    assert letter["reason"] == "future"
    assert letter["detail"].startswith("timestamp is 3600000 ms after the record was appended")
    assert (letter["payload"], letter["key"]) == (original.value(), b"user")
    assert (letter["failed_at"], letter["offset"]) == (start, 0)


def test_what_was_aborted_is_counted_and_written_once(kit: Any, start: int) -> None:
    pipeline = kit.pipeline()
    pipeline.append(0, search(start + HOUR), start)
    pipeline.append(0, search(start))
    pipeline.read(pipeline.source, {0: 2})
    pipeline.abort(pipeline.source)
    assert not pipeline.source.task.fates
    run(pipeline)
    assert len(pipeline.letters("dead-letters")) == 1
    assert dict(pipeline.source.task.fates) == {(0, "future"): 1, (0, "accepted"): 1}


def test_who_denied_analytics_is_counted_but_not_as_a_user(kit: Any, start: int) -> None:
    text = ONE.replace("]", ", {name: people, aggregate: distinct_users}]")
    registry = open_registry("mock://metrics")
    for default, users in (("granted", 2), ("denied", 1)):
        pipeline = kit.pipeline(load_definitions(text))
        pipeline.source.task = MetricSource(
            load_definitions(text), registry, partitions=2, consent_default=default
        )
        for user, consent in (("a", True), ("b", None), ("c", False)):
            given = {} if consent is None else {"consent_analytics": consent}
            pipeline.append(0, search(start, user, **given))
        run(pipeline)
        rows = [row for row in pipeline.metrics().values() if row["window_size"] == "1m"]
        assert [(row["metrics"], row["values"], row["users"]) for row in rows] == [
            (["events", "people"], [3, users], users)
        ]


def test_idle_partitions_get_ticks(kit: Any, start: int) -> None:
    pipeline = kit.pipeline()
    task = pipeline.source.task
    assert list(task.ticks(start, {0, 1})) == []
    pipeline.append(0, search(start), start + 1_000)
    run(pipeline)
    # Partition 1 never had a record: it goes as far as the others.
    [output] = task.ticks(start + 2_000, {0, 1})
    assert (output.topic, output.keys, output.partitions) == ("events", [None], 1)
    assert pipeline.codec.decode(output.values[0]).record["timestamp"] == start
    assert list(task.ticks(start + 2_000, {0})) == []
    # Partition 0 has been idle for six seconds, and so is six seconds further.
    [output] = task.ticks(start + 7_000, {0})
    assert pipeline.codec.decode(output.values[0]).record["timestamp"] == start + 6_000


def test_a_changed_definition_counts_from_where_it_began(kit: Any, start: int) -> None:
    #  before   x(0:00) x(0:10)                          watermark 0:10:00
    #  after            x(0:10) x(0:11)  x(1:05)         minutes from 0:10, hours from 1:00
    pipeline = kit.pipeline(load_definitions(ONE))
    for minute in (0, 10):
        for partition in (0, 1):
            pipeline.append(partition, search(start + minute * MINUTE))
    run(pipeline)
    changed = load_definitions(ONE.replace("count", "count, events: [search]"))
    pipeline.restart(pipeline.source, changed)
    pipeline.restart(pipeline.merge)
    for second in (10 * 60 - 1, 10 * 60 + 1, 11 * 60, 65 * 60):
        pipeline.append(0, search(start + second * 1000))
    pipeline.now += 10
    run(pipeline)
    [grain] = changed.grains()
    mine = {
        place[:2]: row for place, row in pipeline.metrics().items() if place[2] == grain.version
    }
    assert {place: row["values"] for place, row in mine.items()} == {
        ("1m", start + 10 * MINUTE): [3.0],  # what was read again and what came
        ("1m", start + 11 * MINUTE): [1.0],
        ("1m", start + 65 * MINUTE): [1.0],
        ("1h", start + HOUR): [1.0],
    }
    since = {grain.version: start + 10 * MINUTE}
    assert (
        json.loads(pipeline.merge.committed[partition_of(grain.version, "{}", 2)][1])["since"]
        == since
    )
    # It is remembered, and the same after another restart.
    pipeline.restart(pipeline.source)
    pipeline.restart(pipeline.merge)
    pipeline.append(0, search(start + 10 * MINUTE + 1))
    pipeline.now += 10
    run(pipeline)
    assert not any(
        place[:2] == ("1h", start) for place in pipeline.metrics() if place[2] == grain.version
    )


def test_sketches_of_versions_that_are_gone_are_left_alone(kit: Any, start: int) -> None:
    pipeline = kit.pipeline(load_definitions(USERS))
    pipeline.append(0, search(start))
    for partition in (0, 1):
        pipeline.append(partition, tick(start + 2 * kit.lateness))
    run(pipeline)
    pipeline.definitions = load_definitions(ONE)
    pipeline.restart(pipeline.source)
    pipeline.restart(pipeline.merge)
    assert pipeline.source.task._state.sketches == {}
    assert len(pipeline.merge.task._state.rows) == 0


def test_only_the_columns_that_definitions_read_are_decoded() -> None:
    registry = open_registry("mock://metrics")
    assert MetricSource(load_definitions(ONE), registry, partitions=1).columns == frozenset()
    text = ONE.replace("count", "count, events: [feed_click], where: {content_age_days: {lt: 30}}")
    text = text.replace("count,", "count, by: [[page]],")
    task = MetricSource(load_definitions(text), registry, partitions=1)
    assert task.columns == {"page_url", "published_at"}
    assert MetricMerge(load_definitions(ONE), registry, source_partitions=1).columns is None
