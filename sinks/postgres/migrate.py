"""Brings the tables of one schema to a version, whoever else is doing the same.

Upstream: the runner at its start, the CLI, a deployment's own step. Downstream: the revisions in
`migrations/versions`.

Invariant: one migrates, the others wait. The lock is an advisory one of a transaction on a
connection of its own: it works through PgBouncer, and survives revisions that must leave their
transaction to build an index concurrently. Waiting is by polling: a blocked statement would hold
a snapshot, which CREATE INDEX CONCURRENTLY in turn waits for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from sqlalchemy.pool import NullPool

from streamgauge.sinks.postgres.outage import failures

MIGRATIONS = Path(__file__).parent / "migrations"


def migrate(dsn: str, schema: str = "streamgauge", revision: str = "head") -> None:
    """Bring the schema up to a revision; does nothing where it is there already."""
    _run(dsn, schema, lambda config: command.upgrade(config, revision))


def downgrade(dsn: str, schema: str, revision: str) -> None:
    """Bring the schema back to a revision; `base` drops every table, with what is in it."""
    _run(dsn, schema, lambda config: command.downgrade(config, revision))


def _run(dsn: str, schema: str, step: Callable[[Config], Any]) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["schema"] = schema
    with failures(), _only_one(dsn, schema):
        engine = create_engine(
            "postgresql+psycopg://",
            creator=lambda: psycopg.connect(dsn, prepare_threshold=None, connect_timeout=5),
            poolclass=NullPool,
        )
        with engine.connect() as connection:
            config.attributes["connection"] = connection
            step(config)


@contextmanager
def _only_one(dsn: str, schema: str) -> Iterator[None]:
    query = "SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 0))"
    with psycopg.connect(dsn, prepare_threshold=None, connect_timeout=5) as connection:
        while True:
            row = connection.execute(query, [f"streamgauge migrate {schema}"]).fetchone()
            if row and row[0]:
                break
            connection.rollback()
            time.sleep(0.1)
        yield
