"""Views of sessions and users: over right tables they are found right, and a wrong row is told."""

import uuid
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
from psycopg import sql

from streamgauge.cli.verify.postgres import Tables
from streamgauge.cli.verify.profile_targets import profiles_of
from streamgauge.cli.verify.sessions import Sessions
from streamgauge.cli.verify.users import Users
from streamgauge.cli.verify.view_targets import OF_METRICS, TARGET, compare_views
from streamgauge.schemas.segments import builtin
from streamgauge.schemas.view_metrics import view_metrics
from streamgauge.sinks.postgres.migrate import migrate

DAY, MINUTE = 86_400_000, 60_000
START = 20_454 * DAY  # 2026-01-01
TIMES = ("started_at", "ended_at", "computed_at", "first_seen", "last_seen", "entered_at")


def play(user: str, day: int, minute: int, genre: str, episode: str) -> dict[str, Any]:
    what = {"event_type": "playback", "action": "complete", "genre": genre, "position_ms": 1.0}
    at = START + day * DAY + minute * MINUTE
    return {"user_id": user, "timestamp": at, "series_id": "s", "episode": episode, **what}


EVENTS: list[dict[str, Any]] = [
    *(play("ann", 0, minute, f"g{minute}", str(minute)) for minute in (1, 5, 9)),
    {"user_id": "bob", "event_type": "page_view", "timestamp": START + 2 * 3_600_000},
    {"user_id": "bob", "event_type": "task_update", "action": "created"}
    | {"timestamp": START + 2 * 3_600_000 + 1},
    {"user_id": "bob", "event_type": "task_update", "action": "completed", "due_date": START}
    | {"timestamp": START + 2 * 3_600_000 + 2},
    play("ann", 2, 1, "g1", "7"),
    {"user_id": "cyd", "event_type": "quiz_attempt", "score": 5.0, "total_questions": 10}
    | {"timestamp": START + 9 * DAY},
    {"user_id": "cyd", "event_type": "form_submit", "timestamp": START + 12 * DAY},
]


def folded() -> tuple[Sessions, Users]:
    sessions = Sessions(lateness_ms=3_600_000, consent_denied=False)
    users = Users(builtin(), lateness_ms=3_600_000, consent_denied=False)
    for number, event in enumerate(EVENTS):
        for fold in sessions, users:
            fold.event(0, number, {**event, "event_id": str(number)})
    users.finish()
    return sessions, users


def insert(connection: psycopg.Connection[Any], table: str, rows: list[Mapping[str, Any]]) -> None:
    for row in rows:
        known = {**row, "source_partition": 0, "source_offset": 0, "source_generation": 0}
        for name in TIMES:
            if name in known:
                known[name] = datetime.fromtimestamp(known[name] / 1000, UTC)
        query = sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(
            sql.Identifier(table),
            sql.SQL(", ").join(map(sql.Identifier, known)),
            sql.SQL(", ").join(map(sql.Literal, known.values())),
        )
        connection.execute(query)


@pytest.mark.postgres
def test_views_over_right_tables_are_right_and_a_wrong_row_is_told(postgres: str) -> None:
    sessions, users = folded()
    rows, profiles = list(sessions.rows(by_device=False).values()), profiles_of(users)
    schema = f"t_{uuid.uuid4().hex[:8]}"
    migrate(postgres, schema)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"SET search_path TO {schema}".encode())
        for table in ("sessions", "daily_analytics"):
            connection.execute(
                f"CREATE TABLE {table}_1 PARTITION OF {table}"
                " FOR VALUES FROM ('2026-01-01') TO ('2026-02-01')".encode()
            )
        insert(connection, "sessions", rows)
        insert(
            connection,
            "daily_analytics",
            [
                {"user_id": user, "date": datetime.fromtimestamp(day * 86_400, UTC).date()}
                | profile.of_day(day)
                for (_, user), profile in users.profiles.users.items()
                for day in list(profile.by_day)
            ],
        )
        names = ("computed_at", "engagement_score", "learning_velocity", "dropout_risk")
        insert(
            connection,
            "user_profiles",
            [
                {"user_id": user} | {name: row[name] for name in (*names, "tasks_overdue")}
                for user, row in profiles.items()
            ],
        )
        insert(connection, "user_segments", [key._asdict() for key in users.membership.open()])
        with closing(Tables(postgres, schema)) as tables:

            def found() -> list[str]:
                compared = compare_views(rows, users, profiles, tables)
                assert compared.target == TARGET
                assert compared.keys > len(view_metrics())
                return [it.key.split("|")[0] for it in compared.differences]

            assert found() == []
            connection.execute("UPDATE sessions SET is_binge = false")
            assert set(found()) == {"binge_rate"}
            connection.execute("DELETE FROM daily_analytics WHERE user_id = 'cyd'")
            assert set(found()) >= {"active_users_7d", "binge_rate"}
        connection.execute(f"DROP SCHEMA {schema} CASCADE".encode())


def test_every_metric_of_the_catalogue_is_computed_again() -> None:
    sessions, users = folded()
    nothing: Any = type("Nothing", (), {"view": staticmethod(lambda _: [])})
    compared = compare_views(
        sessions.rows(by_device=False).values(), users, profiles_of(users), nothing
    )
    told = {it.key.split("|")[0] for it in compared.differences}
    assert told == set(view_metrics()) - OF_METRICS
