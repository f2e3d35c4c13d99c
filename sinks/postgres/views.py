"""Refreshes the materialised views, so that readers never wait.

Upstream: `streamgauge refresh`. Downstream: the views of the migrations. Each is replaced at once,
CONCURRENTLY: readers see the old rows until the new ones are there. One refreshes at a time;
another one finds the lock taken and does nothing.
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


def refresh(dsn: str, schema: str) -> list[str]:
    """The views that were refreshed; none if somebody else is at it."""
    with failures(), _connected(dsn) as locking, locking.transaction():
        row = locking.execute(_LOCK, [f"streamgauge refresh {schema}"]).fetchone()
        if not row or not row[0]:
            return []
        with _connected(dsn) as connection:
            for view in VIEWS:
                statement = sql.SQL("REFRESH MATERIALIZED VIEW CONCURRENTLY {}")
                connection.execute(statement.format(sql.Identifier(schema, view)))
    return list(VIEWS)


def _connected(dsn: str) -> psycopg.Connection:
    return psycopg.connect(dsn, autocommit=True, prepare_threshold=None, connect_timeout=5)
