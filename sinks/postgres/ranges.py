"""Partitions by time: made from what a batch holds, dropped behind the watermark.

Upstream: the sink, before it writes. Downstream: tables that the migrations made partitioned.

Invariants: nothing here reads the clock, so a log of last year gets its partitions and keeps
them until the log itself has moved on; readers are never locked out while a partition is made
(it is made beside the table and then attached).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

import polars as pl
import psycopg
from psycopg import sql

_STEP = {"day": "1d", "month": "1mo"}
_NAME = {"day": "%Y%m%d", "month": "%Y%m"}

# Room for new versions of a row beside the old one: measured, upserts of hot rows gain a half.
_FILLFACTOR = 50


@dataclass(frozen=True, kw_only=True)
class Ranges:
    """How a table is cut: by which column, and how long a partition is."""

    table: str
    column: str
    unit: Literal["day", "month"]

    def starts(self, rows: pl.DataFrame) -> set[datetime]:
        """Starts of the partitions that rows (times in ms) fall into."""
        days = pl.from_epoch(rows[self.column], "ms").dt.truncate(_STEP[self.unit])
        return {start.replace(tzinfo=UTC) for start in days.unique().to_list()}

    def end(self, start: datetime) -> datetime:
        """Where a partition ends, exclusive."""
        if self.unit == "day":
            return start + timedelta(days=1)
        return start.replace(year=start.year + start.month // 12, month=start.month % 12 + 1)

    def name(self, start: datetime) -> str:
        """`metrics_20260131`, `performance_logs_202601`."""
        return f"{self.table}_{start:{_NAME[self.unit]}}"

    def start_of(self, name: str) -> datetime:
        """The start of a partition, from its name."""
        digits = name.removeprefix(f"{self.table}_")
        return datetime.strptime(digits, _NAME[self.unit]).replace(tzinfo=UTC)


def make(
    connection: psycopg.Connection, schema: str, ranges: Ranges, starts: Iterable[datetime]
) -> None:
    """Make partitions that are missing. Several processes may do so at once."""
    with connection.transaction():
        _lock(connection, schema, ranges)
        present = _partitions(connection, schema, ranges)
        for start in sorted(starts):
            if ranges.name(start) not in present:
                _make_one(connection, schema, ranges, start)


def drop(
    connection: psycopg.Connection, schema: str, ranges: Ranges, before: datetime
) -> list[str]:
    """Drop partitions that end at or before a time; returns their names.

    Dropping locks the table for a moment. A reader who is in its way for more than a second is
    left in peace (LockNotAvailable); the next round tries again.
    """
    with connection.transaction():
        connection.execute("SET LOCAL lock_timeout = '1s'")
        _lock(connection, schema, ranges)
        gone = [
            name
            for name in sorted(_partitions(connection, schema, ranges))
            if ranges.end(ranges.start_of(name)) <= before
        ]
        for name in gone:
            connection.execute(sql.SQL("DROP TABLE {}").format(sql.Identifier(schema, name)))
    return gone


def _make_one(connection: psycopg.Connection, schema: str, ranges: Ranges, start: datetime) -> None:
    # ATTACH asks for a weak lock on the parent; CREATE … PARTITION OF would stop its readers.
    statements = """
        CREATE TABLE {partition} (LIKE {table} INCLUDING ALL) WITH (fillfactor = {fillfactor});
        ALTER TABLE {table} ATTACH PARTITION {partition} FOR VALUES FROM ({start}) TO ({end});
        COMMENT ON TABLE {partition} IS {comment}"""
    end = ranges.end(start)
    connection.execute(
        sql.SQL(statements).format(
            partition=sql.Identifier(schema, ranges.name(start)),
            table=sql.Identifier(schema, ranges.table),
            fillfactor=sql.Literal(_FILLFACTOR),
            start=sql.Literal(start.isoformat()),
            end=sql.Literal(end.isoformat()),
            comment=sql.Literal(
                f"{ranges.table} with {ranges.column} from {start:%Y-%m-%d}, before {end:%Y-%m-%d}"
            ),
        )
    )


def _partitions(connection: psycopg.Connection, schema: str, ranges: Ranges) -> set[str]:
    query = """
        SELECT child.relname FROM pg_catalog.pg_inherits
        JOIN pg_catalog.pg_class child ON child.oid = inhrelid
        WHERE inhparent = %s::regclass"""
    table = sql.Identifier(schema, ranges.table).as_string(connection)
    return {name for (name,) in connection.execute(query, [table])}


def _lock(connection: psycopg.Connection, schema: str, ranges: Ranges) -> None:
    connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))",
        [f"streamgauge partitions {schema}.{ranges.table}"],
    )
