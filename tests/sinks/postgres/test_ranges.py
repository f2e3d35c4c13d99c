"""Partitions by time."""

import threading
from datetime import UTC, datetime
from typing import Any

import polars as pl
import psycopg
import pytest

from streamgauge.sinks.postgres import ranges
from streamgauge.sinks.postgres.ranges import Ranges

DAYS = Ranges(table="metrics", column="window_start", unit="day")
MONTHS = Ranges(table="performance_logs", column="created_at", unit="month")


def day(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type]


def ms(*parts: int) -> int:
    return int(day(*parts).timestamp() * 1000)


def test_rows_fall_into_days() -> None:
    rows = pl.DataFrame({"window_start": [ms(2026, 1, 1, 23, 59), ms(2026, 1, 2), ms(2026, 1, 1)]})
    assert DAYS.starts(rows) == {day(2026, 1, 1), day(2026, 1, 2)}


def test_rows_fall_into_months() -> None:
    rows = pl.DataFrame({"created_at": [ms(2026, 1, 31, 23), ms(2026, 12, 1), ms(2024, 2, 29)]})
    assert MONTHS.starts(rows) == {day(2026, 1, 1), day(2026, 12, 1), day(2024, 2, 1)}


def test_no_rows_need_no_partition() -> None:
    assert (
        DAYS.starts(pl.DataFrame({"window_start": []}, schema={"window_start": pl.Int64})) == set()
    )


@pytest.mark.parametrize(
    ("cut", "start", "end"),
    [
        (DAYS, day(2026, 2, 28), day(2026, 3, 1)),
        (MONTHS, day(2026, 2, 1), day(2026, 3, 1)),
        (MONTHS, day(2026, 12, 1), day(2027, 1, 1)),
    ],
)
def test_a_partition_ends_where_the_next_begins(
    cut: Ranges, start: datetime, end: datetime
) -> None:
    assert cut.end(start) == end
    assert cut.start_of(cut.name(start)) == start


@pytest.fixture
def connection(pg: Any) -> Any:
    with psycopg.connect(pg.dsn, autocommit=True) as connection:
        yield connection


def names(connection: Any, pg: Any) -> list[str]:
    query = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass"
    found = connection.execute(query, [f"{pg.schema}.metrics"]).fetchall()
    return sorted(name.split(".")[1] for (name,) in found)


@pytest.mark.postgres
def test_many_may_make_the_same_partitions_at_once(connection: Any, pg: Any) -> None:
    starts = [day(2026, 1, d) for d in range(1, 6)]
    failures: list[BaseException] = []

    def make() -> None:
        try:
            with psycopg.connect(pg.dsn, autocommit=True) as mine:
                ranges.make(mine, pg.schema, DAYS, starts)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert names(connection, pg) == [f"metrics_2026010{d}" for d in range(1, 6)]


@pytest.mark.postgres
def test_a_reader_is_not_locked_out_while_a_partition_is_made(connection: Any, pg: Any) -> None:
    ranges.make(connection, pg.schema, DAYS, [day(2026, 1, 1)])
    with psycopg.connect(pg.dsn) as reader:
        reader.execute(f"SELECT * FROM {pg.schema}.metrics")  # holds its lock until the end
        connection.execute("SET lock_timeout = '30s'")
        ranges.make(connection, pg.schema, DAYS, [day(2026, 1, 2)])
    assert names(connection, pg) == ["metrics_20260101", "metrics_20260102"]


@pytest.mark.postgres
def test_only_what_ended_before_is_dropped(connection: Any, pg: Any) -> None:
    # |1.|2.|3.|   before the 3rd, 00:00
    ranges.make(connection, pg.schema, DAYS, [day(2026, 1, d) for d in (1, 2, 3)])
    gone = ranges.drop(connection, pg.schema, DAYS, day(2026, 1, 3))
    assert gone == ["metrics_20260101", "metrics_20260102"]
    assert names(connection, pg) == ["metrics_20260103"]


@pytest.mark.postgres
def test_dropping_waits_for_no_reader(connection: Any, pg: Any) -> None:
    ranges.make(connection, pg.schema, DAYS, [day(2026, 1, 1)])
    with psycopg.connect(pg.dsn) as reader:
        reader.execute(f"SELECT * FROM {pg.schema}.metrics")
        with pytest.raises(psycopg.errors.LockNotAvailable):
            ranges.drop(connection, pg.schema, DAYS, day(2027, 1, 1))
    assert names(connection, pg) == ["metrics_20260101"]
