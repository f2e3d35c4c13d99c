"""Metrics of sessions and users: listed with the others, and what the views say is plain SQL's."""

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from click.testing import Result

from streamgauge.schemas.metrics import builtin
from streamgauge.schemas.view_metrics import ViewMetric, view_metrics
from tests.cli.commands.filled import Filled, filled

Run = Callable[..., Result]

SOURCE = "source_partition, source_offset, source_generation"
# ann comes back after two days, bob never; the 9th says that the 1st is over.
ROWS = f"""
    CREATE TABLE m1 PARTITION OF sessions FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
    INSERT INTO sessions (user_id, started_at, duration_seconds, events, conversions, playbacks,
        is_bounce, is_binge, is_final, {SOURCE}) VALUES
        ('ann', '2026-01-01 09:00Z', 600, 5, 1, 3, false, true, true, 0, 0, 0),
        ('ann', '2026-01-01 20:00Z', 0, 1, 0, 0, true, false, true, 0, 1, 0),
        ('bob', '2026-01-01 09:00Z', 300, 3, 0, 1, false, false, true, 0, 2, 0),
        ('ann', '2026-01-03 09:00Z', 60, 2, 0, 0, false, false, true, 0, 3, 0),
        ('cyd', '2026-01-09 09:00Z', 60, 2, 0, 0, false, false, false, 0, 4, 0);
    CREATE TABLE d1 PARTITION OF daily_analytics FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
    INSERT INTO daily_analytics (user_id, date, events, tasks_created, tasks_completed,
        productivity_score, genres, {SOURCE}) VALUES
        ('ann', '2026-01-01', 6, 2, 1, 41, '{{drama,crime}}', 0, 0, 0),
        ('bob', '2026-01-01', 3, 1, 1, 76, '{{drama}}', 0, 0, 0),
        ('ann', '2026-01-03', 2, 0, 0, 0, '{{drama,news,sport,art,film}}', 0, 0, 0),
        ('cyd', '2026-01-09', 2, 0, 0, 0, '{{}}', 0, 0, 0),
        ('cyd', '2026-01-11', 2, 0, 0, 0, '{{}}', 0, 0, 0);
    INSERT INTO user_profiles (user_id, computed_at, engagement_score, learning_velocity,
        dropout_risk, tasks_overdue, {SOURCE}) VALUES
        ('ann', '2026-01-03Z', 30, 0.5, 0.2, 2, 0, 0, 0),
        ('bob', '2026-01-11Z', 10, NULL, NULL, 0, 0, 0, 0);
    INSERT INTO user_segments (user_id, segment, entered_at, left_at, {SOURCE}) VALUES
        ('ann', 'power', '2026-01-01Z', NULL, 0, 0, 0),
        ('bob', 'new', '2026-01-01Z', NULL, 0, 0, 0),
        ('bob', 'power', '2026-01-01Z', '2026-01-02Z', 0, 0, 0);
    CREATE TABLE p1 PARTITION OF metrics FOR VALUES FROM ('2026-01-01') TO ('2026-01-02');
    INSERT INTO metrics SELECT '2026-01-01Z', '1d', 'plays', dimensions::jsonb, 'v', value, value,
        1, NULL, true, 0, 0, 0 FROM (VALUES ('{{}}', 8), ('{{"genre": "drama"}}', 4),
            ('{{"genre": "crime"}}', 4), ('{{"genre": null}}', 9), ('{{"creator_id": "x"}}', 3),
            ('{{"creator_id": "y"}}', 1)) AS plays (dimensions, value);
"""
FIRST = "2026-01-01T00:00:00+00:00"
VALUES: dict[str, tuple[str, float, bool]] = {
    # When, what, and whether it is final; computed by hand.
    "sessions": (FIRST, 3, True),
    "session_length": (FIRST, 5, True),
    "session_length_median": (FIRST, 5, True),
    "session_events": (FIRST, 3, True),
    "bounce_rate": (FIRST, 1 / 3, True),
    "binge_rate": (FIRST, 1 / 2, True),
    "session_conversion_rate": (FIRST, 1 / 3, True),
    "return_rate_7d": (FIRST, 1 / 2, True),
    "return_frequency": (FIRST, (3 + 1) / 2, True),
    "active_users_7d": (FIRST, 2, True),
    "genres_per_user_week": ("2025-12-29T00:00:00+00:00", (6 + 1) / 2, True),
    "narrow_users_week": ("2025-12-29T00:00:00+00:00", 1 / 2, True),
    "productivity_score": (FIRST, (41 + 76) / 2, True),
    "genre_diversity": (FIRST, 0.6931471805599453, True),
    "creator_share": (FIRST, 3 / 4, True),
    "engagement_score": ("2026-01-11T00:00:00+00:00", 20, False),
    "learning_velocity": ("2026-01-11T00:00:00+00:00", 0.5, False),
    "dropout_risk": ("2026-01-11T00:00:00+00:00", 0.2, False),
    "tasks_overdue": ("2026-01-11T00:00:00+00:00", 2, False),
    "segment_engagement": ("2026-01-11T00:00:00+00:00", 30, False),
    "engagement_spread": ("2026-01-11T00:00:00+00:00", 1, False),
}


def test_they_are_listed_and_shown_with_the_metrics_of_events(run: Run) -> None:
    lines = run("metrics", "list", "--json").output.splitlines()
    rows = {row["name"]: row for row in map(json.loads, lines)}
    assert rows["binge_rate"]["source"] == "session_metrics.binge_rate"
    assert rows["page_views"]["source"] == "events"
    assert json.loads(run("metrics", "show", "session_length").output)["unit"] == "minutes"
    refused = run("metrics", "show", "bounce_rates", exit_code=2).output
    assert "did you mean bounce_rate?" in refused


def test_no_name_is_that_of_a_metric_of_events_and_all_are_checked_below() -> None:
    assert not {one.name for one in builtin().series()} & set(view_metrics())
    assert set(view_metrics()) == set(VALUES)


def test_a_window_that_it_has_not_is_refused(run: Run) -> None:
    refused = run("metrics", "query", "bounce_rate", "--window", "1m", exit_code=2).output
    assert "windows of 1d" in refused


@pytest.fixture(scope="module")
def known(postgres: str) -> Filled:
    """A namespace and its schema, with three users in it."""
    return filled(postgres, ROWS)


@pytest.mark.postgres
def test_each_has_the_value_that_was_computed_by_hand(
    run: Run, postgres: str, known: Filled
) -> None:
    where = ("--json", "--postgres", postgres, "--namespace", known.namespace)

    def lines(name: str) -> list[dict[str, Any]]:
        output = run("metrics", "query", name, *where).output
        return [json.loads(line) for line in output.splitlines()]

    for name, (when, value, is_final) in VALUES.items():
        row = next(row for row in lines(name) if row["window_start"] == when)
        assert row["value"] == pytest.approx(value), name
        assert row["is_final"] is is_final, name
        if row["numerator"] is not None and row["denominator"] is not None:
            assert row["numerator"] / row["denominator"] == pytest.approx(value), name
    [last] = [row for row in lines("sessions") if row["window_start"].startswith("2026-01-09")]
    assert last["is_final"] is False
    assert {row["dimensions"]["segment"] for row in lines("segment_engagement")} == {"new", "power"}
    some = run("metrics", "query", "segment_engagement", "--where", "segment=new", *where).output
    assert json.loads(some)["value"] == 10


@pytest.mark.postgres
def test_every_column_is_there_and_says_what_it_is(postgres: str, known: Filled) -> None:
    query = """
        SELECT attname, col_description(attrelid, attnum) FROM pg_attribute
        WHERE attrelid = format('%%I.%%I', %s::text, %s::text)::regclass AND attnum > 0"""
    with psycopg.connect(postgres) as connection:
        for one in view_metrics().values():
            columns = dict(connection.execute(query, [known.schema, one.view]).fetchall())
            assert all(columns.values()), one.view
            assert columns.keys() >= _columns(one), one.name


def _columns(one: ViewMetric) -> set[str]:
    named = (one.start, one.value, one.numerator, one.denominator, one.users, one.final)
    return {name for name in (*named, *one.dimensions, *one.where) if name}
