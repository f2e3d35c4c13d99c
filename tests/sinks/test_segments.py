"""Moves between segments in Postgres (stays with both reasons) and in Redis (sets)."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest

from streamgauge.schemas.segment_records import SegmentCount, SegmentRules, UserSegment
from streamgauge.sinks.postgres.sink import PostgresSink
from streamgauge.sinks.redis import segments
from streamgauge.sinks.redis.commands import Commands
from streamgauge.sinks.sink import Log

NOON = 1_767_268_800_000
MINUTE = 60_000
RULES = SegmentRules(rules_version=0, rules_body="{}")


def enters(user: str, segment: str, minute: int) -> UserSegment:
    return UserSegment(
        user_id=user,
        segment=segment,
        entered_at=NOON + minute * MINUTE,
        left_at=None,
        reason_in=f'{{"events":{minute}}}',
        reason_out=None,
        rule_version="abcdef01",
    )


def leaves(user: str, segment: str, minute: int, at: int) -> UserSegment:
    return UserSegment(
        user_id=user,
        segment=segment,
        entered_at=NOON + minute * MINUTE,
        left_at=NOON + at * MINUTE,
        reason_in=None,
        reason_out=f'{{"events":{at}}}',
        rule_version="abcdef01",
    )


@pytest.fixture
def batches(message: Any, batch: Any) -> Any:
    """Batches of the topic, one after the other."""
    offsets = iter(range(10_000))

    def make(sink: Any, *records: Any, topic: str = "user-segments") -> Any:
        messages = [
            message(topic, 0, next(offsets), record, key=str(number))
            for number, record in enumerate(records)
        ]
        return batch(sink, messages)

    return make


STORY = (
    (RULES, enters("ann", "new", 0), enters("ann", "busy", 1), leaves("ann", "busy", 1, 2)),
    (enters("ann", "busy", 3), enters("bob", "new", 3), leaves("ann", "new", 0, 4)),
    (leaves("ann", "busy", 3, 5),),
)


@pytest.mark.postgres
def test_a_stay_keeps_both_reasons_whether_they_come_together_or_apart(
    pg: Any, batches: Any
) -> None:
    sink = pg.sink()
    sink.open({("user-segments", 0): Log(), ("segment-counts", 0): Log()})
    for records in STORY:
        sink.write(batches(sink, *records))
    count = SegmentCount(segment="new", at=NOON, members=2)
    sink.write(batches(sink, count, topic="segment-counts"))
    with psycopg.connect(pg.dsn) as connection:
        rows = connection.execute(
            "SELECT user_id, segment, (extract(epoch FROM entered_at) * 1000)::bigint,"
            " (extract(epoch FROM left_at) * 1000)::bigint, reason_in->'events',"
            f" reason_out->'events' FROM {pg.schema}.user_segments ORDER BY 1, 2, 3"
        ).fetchall()
        members = connection.execute(
            f"SELECT segment, user_id FROM {pg.schema}.segment_members"
        ).fetchall()
        sizes = connection.execute(
            f"SELECT segment, members, partitions FROM {pg.schema}.segment_sizes"
        ).fetchall()
    sink.close()
    at = [NOON + minute * MINUTE for minute in range(6)]
    assert rows == [
        ("ann", "busy", at[1], at[2], 1, 2),
        ("ann", "busy", at[3], at[5], 3, 5),
        ("ann", "new", at[0], at[4], 0, 4),
        ("bob", "new", at[3], None, 3, None),
    ]
    assert members == [("new", "bob")]
    assert sizes == [("new", 2, 1)]


@pytest.mark.redis
def test_sets_say_who_is_in_a_segment_and_in_which_segments_somebody_is(
    hot: Any, batches: Any
) -> None:
    sink = hot.sink()
    sink.open({("user-segments", 0): Log(cluster_id="c", topic_id="t")})
    for records in STORY[:2]:
        sink.write(batches(sink, *records))
    tag = f"{hot.namespace}:{{user-segments-0}}:"

    def found() -> dict[str, set[str]]:
        names = [key.removeprefix(tag) for key in hot.client.scan_iter(f"{tag}*")]
        return {name: hot.client.smembers(tag + name) for name in names if name != "fence"}

    assert found() == {
        "segment:new": {"bob"},
        "segment:busy": {"ann"},
        "user:ann": {"busy"},
        "user:bob": {"new"},
    }
    sink.write(batches(sink, *STORY[2]))
    assert found() == {"segment:new": {"bob"}, "user:bob": {"new"}}
    sink.close()
    again = hot.sink("b")
    again.open({("user-segments", 0): Log(cluster_id="c", topic_id="another")})
    assert found() == {}  # the topic was made anew: what the old one said is void
    again.close()


def test_of_a_user_and_a_segment_the_last_row_of_a_batch_counts(batches: Any) -> None:
    commands = {0: Commands(prefix="p:")}
    sink = PostgresSink("", "s")
    frame = batches(sink, *(record for records in STORY for record in records)).frame
    segments.apply(frame, commands)
    assert commands[0].keys == ["p:segment:new", "p:user:ann", "p:segment:busy", "p:user:bob"]
    done = [(name, sorted(members)) for name, _, *members in json.loads(commands[0].packed)]
    assert done == [
        ("SREM", ["ann"]),
        ("SREM", ["busy", "new"]),
        ("SREM", ["ann"]),
        ("SADD", ["bob"]),
        ("SADD", ["new"]),
    ]
