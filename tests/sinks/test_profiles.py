"""Profiles in Postgres (users, devices, days, links, views) and in Redis (hashes)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from streamgauge.schemas.profile_records import COUNTS, FIELDS, SUMS, UserDay, UserLink, UserProfile
from streamgauge.sinks.postgres import views
from streamgauge.sinks.redis import profiles
from streamgauge.sinks.redis.commands import Commands
from streamgauge.sinks.redis.sink import RedisSink
from streamgauge.sinks.sink import Log

DAY = 86_400_000
NOON = 20_000 * DAY + DAY // 2
TOPICS = ("user-profiles", "daily-analytics", "user-links")


def profile(user: str, **said: Any) -> Any:
    known = {name: 0 for name, (kind, _) in FIELDS.items() if kind is int}
    known |= {"computed_at": 20_000 * DAY, "first_seen": NOON, "last_seen": NOON}
    counts = [said.pop(name, 0) for name in COUNTS]
    sums = [said.pop(name, 0) for name in SUMS]
    packed = {
        "counts": struct.pack(f"<{len(counts)}I", *counts),
        "sums": struct.pack(f"<{len(sums)}q", *sums),
    }
    tags = said.pop("tags", {})
    numbers = [number for count in tags.values() for number in (0, count, 0)]
    packed["tag_sums"] = struct.pack(f"<{len(numbers)}q", *numbers)
    fields = {**dict.fromkeys(FIELDS), **known, **packed, "tags": list(tags)}
    return UserProfile(**{**fields, "user_id": user, **said})


ANN = profile(
    "ann",
    events=5,
    mobile_events=3,
    tv_events=1,
    plays=2,
    plays_skipped=1,
    watched_ms=1_800_000,
    engagement_score=12.5,
    preferred_genres=["dra\\ma", 'cri"me,'],
    preferred_hours=[12, 7],
    preferred_watch_hours=[20],
    tasks_done=2,
    tags={
        "device:mobile|390x844|fast": 1,
        "device:mobile||slow": 1,
        "device:mobile|390x844|slow": 1,
        "device:tv||": 1,
        "quality:tv|4k": 2,
        "created:high": 3,
        "completed:high": 1,
    },
)
BOB = profile("bob")


@pytest.fixture
def batches(message: Any, batch: Any) -> Any:
    offsets: Iterator[int] = iter(range(10_000))

    def make(sink: Any, topic: str, *records: Any) -> Any:
        messages = [
            message(topic, 0, next(offsets), record, key=str(number))
            for number, record in enumerate(records)
        ]
        return batch(sink, messages)

    return make


@pytest.mark.postgres
def test_a_profile_is_a_row_in_each_of_its_tables_and_views_are_refreshed(
    pg: Any, batches: Any
) -> None:
    sink = pg.sink()
    sink.open({(topic, 0): Log() for topic in TOPICS})
    sink.write(batches(sink, "user-profiles", profile("ann"), BOB))
    sink.write(batches(sink, "user-profiles", ANN))
    day = UserDay(
        user_id="ann",
        date=20_000 * DAY,
        events=5,
        sessions=1,
        minutes=2.5,
        tasks_created=4,
        tasks_completed=1,
        completion_rate=0.25,
        productivity_score=23.5,
        genres=("crime", "drama"),
    )
    sink.write(batches(sink, "daily-analytics", day))
    link = UserLink(anonymous_id="a-1", user_id="ann", linked_at=NOON)
    sink.write(batches(sink, "user-links", link))
    sink.close()
    assert views.refresh(pg.dsn, pg.schema) == list(views.VIEWS)

    with psycopg.connect(pg.dsn) as connection:

        def one(query: str) -> Any:
            return connection.execute(query.replace("FROM ", f"FROM {pg.schema}.")).fetchone()

        assert one(
            "SELECT events, preferred_genres, preferred_hours, tasks_by_priority, country"
            " FROM user_profiles WHERE user_id = 'ann'"
        ) == (5, ["dra\\ma", 'cri"me,'], [12, 7], {"high": {"created": 3, "completed": 1}}, None)
        assert one("SELECT tasks_by_priority FROM user_profiles WHERE user_id = 'bob'") == (None,)
        assert one(
            "SELECT total_watch_time_hours, preferred_watch_times, device_split->'mobile',"
            " extended_metrics->'skip_rate' FROM user_temporal_metrics WHERE user_id = 'ann'"
        ) == (0.5, [20], 0.75, 0.5)
        assert one(
            "SELECT screen_size, connection_speed, preferred_quality, usage_patterns"
            " FROM user_device_preferences WHERE device_type = 'mobile'"
        ) == ("390x844", "slow", None, {"events": 3, "share": 0.75})
        assert one("SELECT preferred_quality FROM user_device_preferences WHERE device_type='tv'")
        assert one("SELECT date::text, genres FROM daily_analytics") == (
            "2024-10-04",
            ["crime", "drama"],
        )
        assert one("SELECT user_id FROM user_links WHERE anonymous_id = 'a-1'") == ("ann",)
        assert one("SELECT created, completed FROM user_priority_distribution") == (3, 1)
        assert one("SELECT status, updates FROM user_status_distribution") == ("done", 2)
        assert one("SELECT completion_rate::float8 FROM user_task_stats") == (0.25,)
        assert one("SELECT month::text, events FROM user_monthly_trends") == ("2024-10-01", 5)
        assert one("SELECT week::text, genres FROM user_week_genres") == ("2024-09-30", 2)
        assert one("SELECT users, rate FROM active_returns_daily") == (1, 0)
        assert one("SELECT segment FROM segment_fairness") is None


@pytest.mark.redis
def test_a_hash_has_the_current_figures_and_goes_when_nobody_was_seen_for_30_days(
    hot: Any, batches: Any
) -> None:
    sink = hot.sink()
    sink.open({("user-profiles", 0): Log(cluster_id="c", topic_id="t")})
    sink.write(batches(sink, "user-profiles", ANN, BOB))
    key = f"{hot.namespace}:{{user-profiles-0}}:user:"
    found = hot.client.hgetall(f"{key}ann")
    assert found["events"] == "5" and found["preferred_hours"] == "[12, 7]"
    assert found["engagement_score"] == "12.5" and found["country"] == ""
    assert hot.client.pttl(f"{key}ann") > 0
    sink.write(batches(sink, "user-profiles", profile("ann", days_since_last_seen=31)))
    assert not hot.client.exists(f"{key}ann") and hot.client.exists(f"{key}bob")
    sink.close()


def test_of_a_user_the_last_row_of_a_batch_counts(batches: Any) -> None:
    commands = {0: Commands(prefix="p:")}
    sink = RedisSink("redis://127.0.0.1:1/0")
    profiles.apply(batches(sink, "user-profiles", BOB, ANN, profile("bob")).frame, commands)
    assert commands[0].keys == ["p:user:ann", "p:user:bob"]
