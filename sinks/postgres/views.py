"""Refreshes the materialised views, so that readers never wait.

Upstream: `streamgauge refresh`, and the schedule in the sink's process (`refreshing.py`).
Downstream: the views of the migrations. Each is replaced at once, CONCURRENTLY: readers see the old
rows until the new ones are there. One refreshes at a time; another one finds the lock taken and
does nothing. The table `view_refreshes` says when each was refreshed.
"""

from __future__ import annotations

import psycopg
from psycopg import sql

from streamgauge.sinks.postgres.outage import failures

VIEWS = (
    "user_metrics_hourly",
    "user_task_stats",
    "user_priority_distribution",
    "user_status_distribution",
    "user_monthly_trends",
)
_LOCK = "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))"
_DUE = """
    SELECT view FROM unnest(%s::text[]) WITH ORDINALITY AS asked (view, place)
    WHERE NOT EXISTS (
        SELECT FROM {} AS done
        WHERE done.view = asked.view AND refreshed_at > now() - make_interval(secs => %s)
    ) ORDER BY place"""
_DONE = """
    INSERT INTO {} AS done (view, refreshed_at, seconds)
    SELECT %s, began, extract(epoch FROM clock_timestamp() - began) FROM (SELECT %s AS began) AS it
    ON CONFLICT (view) DO UPDATE
        SET refreshed_at = excluded.refreshed_at, seconds = excluded.seconds
"""


def refresh(dsn: str, schema: str, *, older_than: float = 0.0) -> list[str]:
    """The views that were refreshed: those whose last time is `older_than` so many seconds.

    None if somebody else is at it.
    """
    with failures(), _connected(dsn) as locking, locking.transaction():
        row = locking.execute(_LOCK, [f"streamgauge refresh {schema}"]).fetchone()
        if not row or not row[0]:
            return []
        with _connected(dsn) as connection:
            done = sql.Identifier(schema, "view_refreshes")
            due = connection.execute(sql.SQL(_DUE).format(done), [list(VIEWS), older_than])
            views = [view for (view,) in due.fetchall()]
            for view in views:
                _refresh(connection, schema, view, sql.SQL(_DONE).format(done))
    return views


def _refresh(connection: psycopg.Connection, schema: str, view: str, done: sql.Composed) -> None:
    statement = sql.SQL("REFRESH MATERIALIZED VIEW CONCURRENTLY {}")
    (began,) = connection.execute("SELECT clock_timestamp()").fetchone() or (None,)
    connection.execute(statement.format(sql.Identifier(schema, view)))
    connection.execute(done, [view, began])


def _connected(dsn: str) -> psycopg.Connection:
    return psycopg.connect(dsn, autocommit=True, prepare_threshold=None, connect_timeout=5)
