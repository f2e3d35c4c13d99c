"""Materialised views are refreshed on schedule: once, by one, and never in anybody's way."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from streamgauge.sinks.postgres import views
from streamgauge.sinks.postgres.refreshing import Refreshing
from streamgauge.sinks.telemetry import REFRESH_FAILURES, REFRESHES

pytestmark = pytest.mark.postgres

DAY = """
    CREATE TABLE {0}.d1 PARTITION OF {0}.daily_analytics
        FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
    INSERT INTO {0}.daily_analytics
        (user_id, date, events, source_partition, source_offset, source_generation)
        VALUES ('ann', '2026-01-02', 3, 0, 0, 0)"""


def await_(done: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline, f"no {what}"
        time.sleep(0.05)


def ask(pg: Any, query: str) -> Any:
    with psycopg.connect(pg.dsn) as connection:
        return connection.execute(query.format(pg.schema).encode()).fetchall()


def test_a_view_is_refreshed_once_in_an_interval_whoever_asks(pg: Any) -> None:
    with ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(views.refresh, pg.dsn, pg.schema, older_than=3600.0) for _ in range(3)]
        assert sorted(len(one.result()) for one in asked) == [0, 0, len(views.VIEWS)]
    assert views.refresh(pg.dsn, pg.schema, older_than=3600.0) == []
    rows = ask(pg, "SELECT view FROM {}.view_refreshes WHERE seconds >= 0")
    assert {view for (view,) in rows} == set(views.VIEWS)
    assert views.refresh(pg.dsn, pg.schema) == list(views.VIEWS)


def test_nobody_waits_for_whoever_refreshes(pg: Any) -> None:
    with psycopg.connect(pg.dsn) as other:
        other.execute(views._LOCK, [f"streamgauge refresh {pg.schema}"])
        assert views.refresh(pg.dsn, pg.schema) == []


def test_what_is_written_shows_in_the_views_by_itself(pg: Any) -> None:
    before = REFRESHES._value.get()
    with psycopg.connect(pg.dsn) as connection:
        connection.execute(DAY.format(pg.schema).encode())
    schedule = Refreshing(pg.dsn, pg.schema, every=0.2)
    try:
        query = "SELECT events FROM {}.user_monthly_trends"
        await_(lambda: bool(ask(pg, query) == [(3,)]), "refresh")
    finally:
        schedule.close()
    await_(lambda: not schedule._thread.is_alive(), "end")
    assert REFRESHES._value.get() > before


def test_a_failure_is_counted_and_the_schedule_goes_on(pg: Any) -> None:
    before = REFRESH_FAILURES._value.get()
    schedule = Refreshing(pg.dsn, "there_is_no_such_schema", every=0.1)
    try:
        await_(lambda: bool(REFRESH_FAILURES._value.get() >= before + 2), "second failure")
        assert schedule._thread.is_alive()
    finally:
        schedule.close()
    await_(lambda: not schedule._thread.is_alive(), "end")
