"""`users`: a profile and a timeline over all names of a person; views refreshed."""

import json
from collections.abc import Callable

import psycopg
import pytest
from click.testing import Result

from tests.cli.commands.filled import Filled, filled

Run = Callable[..., Result]

SOURCE = "source_partition, source_offset, source_generation"
ROWS = f"""
    INSERT INTO user_profiles (user_id, first_seen, last_seen, events, engagement_score,
        preferred_genres, quiz_score, {SOURCE}) VALUES
        ('ann', '2026-01-02 10:00Z', '2026-01-05 10:00Z', 7, 12.3456, '{{drama,crime}}', 500000,
         0, 0, 0),
        ('a-1', '2026-01-01 09:00Z', '2026-01-01 10:00Z', 2, 1, '{{}}', 0, 1, 0, 0),
        ('bob', '2026-01-01 09:00Z', '2026-01-01 10:00Z', 2, 1, '{{}}', 0, 1, 0, 0);
    INSERT INTO user_links (anonymous_id, user_id, linked_at, {SOURCE}) VALUES
        ('a-1', 'ann', '2026-01-02 10:00Z', 0, 0, 0);
    CREATE TABLE sessions_202601 PARTITION OF sessions
        FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
    INSERT INTO sessions (user_id, started_at, ended_at, duration_seconds, events, is_final,
        {SOURCE}) VALUES
        ('a-1', '2026-01-01 09:00Z', '2026-01-01 10:00Z', 3600, 2, true, 0, 0, 0),
        ('ann', '2026-01-05 09:50Z', '2026-01-05 10:00Z', 600, 7, false, 0, 0, 0);
    INSERT INTO user_segments (user_id, segment, entered_at, left_at, reason_in, reason_out,
        {SOURCE}) VALUES
        ('ann', 'new', '2026-01-02 10:01Z', '2026-01-04 10:00Z', '{{"days_since_first": 0}}',
         '{{"days_since_first": 7}}', 0, 0, 0),
        ('ann', 'active', '2026-01-05 10:00Z', NULL, '{{"active_days_7": 3}}', NULL, 0, 0, 0);
    INSERT INTO user_device_preferences (user_id, device_type, screen_size, usage_patterns,
        {SOURCE}) VALUES ('ann', 'tv', '3840x2160', '{{"events": 7, "share": 1}}', 0, 0, 0);
"""


@pytest.fixture(scope="module")
def known(postgres: str) -> Filled:
    """A namespace with two people, of whom one has two names."""
    return filled(postgres, ROWS)


@pytest.fixture
def ask(
    run: Run, postgres: str, known: Filled, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., Result]:
    monkeypatch.setenv("STREAMGAUGE_POSTGRES", postgres)
    monkeypatch.setenv("STREAMGAUGE_NAMESPACE", known.namespace)
    return run


@pytest.mark.postgres
def test_a_person_is_shown_with_all_names_segments_and_devices(ask: Run) -> None:
    found = json.loads(ask("users", "show", "ann", "--json").output)
    assert found["names"] == ["ann", "a-1"]
    assert [profile["events"] for profile in found["profiles"]] == [7, 2]
    assert found["profiles"][0]["quiz_score"] == 0.5
    assert [segment["segment"] for segment in found["segments"]] == ["active"]
    assert found["devices"][0]["screen_size"] == "3840x2160"
    text = ask("analyze-users", "--user-id", "ann").output
    assert "drama, crime" in text and "12.346" in text and "active since" in text
    assert json.loads(ask("users", "show", "a-1", "--json").output)["user_id"] == "a-1"


@pytest.mark.postgres
def test_nobody_is_known_by_a_wrong_name(ask: Run) -> None:
    assert "is the name right" in ask("users", "show", "eve", exit_code=1).output
    assert "nothing is known of eve" in ask("users", "timeline", "eve").output


@pytest.mark.postgres
def test_a_timeline_tells_sessions_and_segments_the_latest_first(ask: Run) -> None:
    lines = ask("users", "timeline", "ann", "--json").output.splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["what"] for row in rows] == [
        *("entered active", "session", "left new", "entered new", "first seen", "identified"),
        *("first seen", "session"),
    ]
    assert rows[0]["details"] == {"active_days_7": 3}
    since = ask("users", "timeline", "ann", "--since", "2026-01-05").output
    assert "active_days_7 3" in since and "left new" not in since
    lines = ask("users", "timeline", "ann").output.splitlines()
    [entered] = [line for line in lines if "entered new" in line]
    assert entered.endswith("days_since_first 0")


@pytest.mark.postgres
def test_views_are_refreshed(ask: Run, postgres: str, known: Filled) -> None:
    told = json.loads(ask("refresh", "--json").output)
    assert "user_metrics_hourly" in told["refreshed"]
    with psycopg.connect(postgres) as connection:
        query = f"SELECT user_id, sessions FROM {known.schema}.user_metrics_hourly ORDER BY user_id"
        assert connection.execute(query.encode()).fetchall() == [("a-1", 1), ("ann", 1)]
