"""Topics into tables, the position in the same transaction.

Upstream: the runner. Downstream: the tables of one schema. One write is one transaction: fence
and position first (`fence.py`), then rows (`upsert.py`), so a zombie's work rolls back.

Works through PgBouncer in transaction mode: no prepared statements, no session settings, every
name with its schema. A process stopped inside a transaction loses it after ten seconds, so that
its locks cannot hold up who comes after it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import polars as pl
import psycopg

from streamgauge.schemas import faultpoint
from streamgauge.sinks.errors import Retryable
from streamgauge.sinks.postgres import fence, ranges
from streamgauge.sinks.postgres.migrate import migrate
from streamgauge.sinks.postgres.outage import failures
from streamgauge.sinks.postgres.tables import COLUMNS, PERFORMANCE_TYPES, Table, tables
from streamgauge.sinks.postgres.upsert import delete, upsert
from streamgauge.sinks.sink import Batch, Log, Partition

log = logging.getLogger(__name__)

_TRANSACTION = """
    SET LOCAL idle_in_transaction_session_timeout = '10s';
    SET LOCAL lock_timeout = '10s';
    SET LOCAL statement_timeout = '60s'"""

_DROP_EVERY = 60.0
"""Seconds between looks for old partitions."""


class PostgresSink:
    """Writes metrics, dead letters, late events and performance logs of one namespace."""

    topics: Mapping[str, frozenset[str] | None] = COLUMNS
    types: Mapping[str, frozenset[str]] = {"events": PERFORMANCE_TYPES}

    def __init__(
        self,
        dsn: str,
        schema: str = "streamgauge",
        *,
        owner: str = "",
        retention_days: int | None = None,
        consent_default: str = "granted",
        migrate: bool = True,
    ) -> None:
        self._dsn = dsn
        self._schema = schema
        self._owner = owner
        self._retention = None if retention_days is None else timedelta(days=retention_days)
        self._migrate = migrate
        self._tables = tables(consent_default=consent_default)
        self._connection: psycopg.Connection | None = None
        self._owned: dict[Partition, fence.Owned] = {}
        self._made: dict[str, set[datetime]] = {}
        self._dropped_at: dict[str, float] = {}

    def open(self, partitions: Mapping[Partition, Log]) -> dict[Partition, int | None]:
        """Take partitions over; what was owned before is let go."""
        self._owned = {}
        if self._migrate:
            migrate(self._dsn, self._schema)
            self._migrate = False
        if partitions:
            with self._transaction() as connection:
                owned = fence.take(connection, self._schema, self._owner, partitions)
            self._owned = owned
        return {partition: one.position for partition, one in self._owned.items()}

    def write(self, batch: Batch) -> None:
        """One transaction: positions, rows, deletions."""
        tables = (self._tables[batch.topic], *self._tables[batch.topic].also)
        owned = {p: self._owned[batch.topic, p] for p in batch.ranges}
        filled = [(table, self._rows(table, batch, owned)) for table in tables]
        for table, rows in filled:
            if table.ranges is not None:
                self._make_partitions(table.ranges, rows)
        with self._transaction() as connection:
            if fence.move(connection, self._schema, batch.topic, owned, batch.ranges):
                for table, rows in filled:
                    upsert(connection, self._schema, table, rows)
                    if table.delete is not None:
                        keys = _with_generation(table.delete(batch.tombstones), owned)
                        delete(connection, self._schema, table, keys)
            if batch.messages:
                faultpoint.reached("sink_before_commit")
        for partition, one in owned.items():
            self._owned[batch.topic, partition] = fence.advanced(one, batch.ranges[partition])
        for table, rows in filled:
            if table.ranges is not None:
                self._drop_partitions(table.ranges, rows)

    def _rows(self, table: Table, batch: Batch, owned: Mapping[int, fence.Owned]) -> pl.DataFrame:
        made = table.rows(batch.frame)
        rows = _with_generation(made.drop_nulls(list(table.key)), owned)
        if len(rows) < len(made):
            log.error(
                "%d records of %s lack their key; left out", len(made) - len(rows), batch.topic
            )
        return rows

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _connected(self) -> Iterator[psycopg.Connection]:
        """The connection, made if there is none, and thrown away after any failure."""
        with failures():
            if self._connection is None or self._connection.closed:
                self._connection = psycopg.connect(
                    self._dsn, autocommit=True, prepare_threshold=None, connect_timeout=5
                )
            try:
                yield self._connection
            except BaseException:
                self.close()
                self._made.clear()  # a partition may have been dropped by somebody else
                raise

    @contextmanager
    def _transaction(self) -> Iterator[psycopg.Connection]:
        with self._connected() as connection, connection.transaction():
            connection.execute(_TRANSACTION)
            yield connection

    def _make_partitions(self, cut: ranges.Ranges, rows: pl.DataFrame) -> None:
        made = self._made.setdefault(cut.table, set())
        missing = cut.starts(rows) - made
        if missing:
            with self._transaction() as connection:
                ranges.make(connection, self._schema, cut, missing)
            made |= missing

    def _drop_partitions(self, cut: ranges.Ranges, rows: pl.DataFrame) -> None:
        """Let go of what is older than the newest row by more than the retention."""
        newest = rows[cut.column].max()
        if self._retention is None or not isinstance(newest, int):
            return
        now = time.monotonic()
        if now - self._dropped_at.get(cut.table, -math.inf) < _DROP_EVERY:
            return
        self._dropped_at[cut.table] = now
        before = datetime.fromtimestamp(newest / 1000, UTC) - self._retention
        try:
            with self._transaction() as connection:
                gone = ranges.drop(connection, self._schema, cut, before)
        except Retryable as error:  # a reader has the table: the batch is in, there is no hurry
            log.info("old partitions of %s stay for now: %s", cut.table, error)
            return
        if gone:
            self._made.pop(cut.table, None)
            log.info("dropped %s: older than %s", ", ".join(gone), before.isoformat())


def _with_generation(rows: pl.DataFrame, owned: Mapping[int, fence.Owned]) -> pl.DataFrame:
    """The generation of the topic beside each row's source."""
    generations = {partition: one.generation for partition, one in owned.items()}
    return rows.with_columns(
        source_generation=pl.col("source_partition").replace_strict(
            generations, return_dtype=pl.Int32
        )
    )
