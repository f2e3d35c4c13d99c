"""The Postgres sink beyond what every sink does."""

import logging
import time
from datetime import datetime
from typing import Any

import polars as pl
import psycopg
import pytest

from streamgauge.schemas.events import Request
from streamgauge.schemas.records import DeadLetter
from streamgauge.sinks.errors import Fatal, Retryable, Rewound
from streamgauge.sinks.postgres.sink import PostgresSink
from streamgauge.sinks.sink import Batch, Log, Range

pytestmark = pytest.mark.postgres

DAY = 86_400_000
NOON = 1_767_268_800_000


def rows(pg: Any, query: str) -> list[Any]:
    with psycopg.connect(pg.dsn) as connection:
        cursor = connection.execute(query.replace("{s}", pg.schema))
        return cursor.fetchall() if cursor.description else []


@pytest.fixture
def opened(pg: Any) -> Any:
    sink = pg.sink()
    sink.open({(topic, 0): Log() for topic in ("metrics", "dead-letters", "events")})
    yield sink
    sink.close()


def test_it_makes_its_tables_itself(postgres: str, namespace: str) -> None:
    schema = namespace.replace("-", "_")
    sink = PostgresSink(postgres, schema)
    assert sink.open({("metrics", 0): Log()}) == {("metrics", 0): None}
    with psycopg.connect(postgres) as connection:
        connection.execute(f"DROP SCHEMA {schema} CASCADE")


def test_missing_tables_are_told(postgres: str) -> None:
    sink = PostgresSink(postgres, "not_there", migrate=False)
    with pytest.raises(Fatal, match="migrate first"):
        sink.open({("metrics", 0): Log()})


def test_opening_nothing_takes_nothing(pg: Any) -> None:
    assert pg.sink().open({}) == {}


def test_a_row_is_what_an_analyst_expects(pg: Any, opened: Any) -> None:
    opened.write(pg.batch(0, 0, ("a", 1.5)))
    (row,) = rows(
        pg,
        "SELECT window_start, window_size, metric, dimensions, version, value, numerator,"
        " denominator, users, is_final, source_partition, source_offset FROM {s}.metrics",
    )
    assert row[0] == datetime.fromisoformat("2026-01-01T12:00:00Z")
    assert row[1:] == (
        "1m", "page_views", {"page": "a"}, "abcdef01", 1.5, 1.5, 1.0, 3, False, 0, 0
    )  # fmt: skip


def test_partitions_are_made_from_the_batch_itself(
    pg: Any, opened: Any, message: Any, batch: Any, update: Any
) -> None:
    starts = [NOON - 400 * DAY, NOON, NOON + DAY]
    opened.write(
        batch(
            opened,
            [
                message("metrics", 0, i, update("a", 1.0, window_start=start), str(i))
                for i, start in enumerate(starts)
            ],
        )
    )
    found = rows(pg, "SELECT tableoid::regclass::text FROM {s}.metrics ORDER BY window_start")
    assert [name.split("_")[-1] for (name,) in found] == ["20241127", "20260101", "20260102"]


def test_a_row_of_the_same_partition_never_goes_back(pg: Any, opened: Any) -> None:
    opened.write(pg.batch(0, 5, ("a", 5.0)))
    rows(pg, "UPDATE {s}.sink_offsets SET next_offset = 0")
    assert opened.open({("metrics", 0): Log()}) == {("metrics", 0): 0}
    opened.write(pg.batch(0, 0, ("a", 0.0), ("b", 1.0)))
    assert pg.contents() == {"a": 5.0, "b": 1.0}


def test_a_key_that_moved_to_another_partition_follows_it(pg: Any) -> None:
    sink = pg.sink()
    sink.open({("metrics", 0): Log(), ("metrics", 1): Log()})
    sink.write(pg.batch(0, 500, ("a", 1.0)))
    sink.write(pg.batch(1, 3, ("a", 2.0)))
    assert pg.contents() == {"a": 2.0}


def test_an_older_tombstone_deletes_nothing_newer(pg: Any, opened: Any) -> None:
    opened.write(pg.batch(0, 5, ("a", 5.0)))
    rows(pg, "UPDATE {s}.sink_offsets SET next_offset = 0")
    opened.open({("metrics", 0): Log()})
    opened.write(pg.batch(0, 0, ("a", None)))
    assert pg.contents() == {"a": 5.0}


def test_a_database_that_fell_behind_is_noticed(pg: Any, opened: Any) -> None:
    opened.write(pg.batch(0, 0, ("a", 1.0)))
    rows(pg, "UPDATE {s}.sink_offsets SET next_offset = NULL")
    with pytest.raises(Rewound, match="it was at"):
        opened.write(pg.batch(0, 1, ("a", 2.0)))
    assert pg.contents() == {"a": 1.0}


def test_a_dead_letter_written_twice_is_one_row(
    pg: Any, opened: Any, message: Any, batch: Any
) -> None:
    def letter(detail: str) -> DeadLetter:
        return DeadLetter(
            topic="events",
            partition=1,
            offset=2,
            schema_id=7,
            reason="invalid",
            detail=detail,
            payload=b"x",
            key=b"",
            failed_at=NOON,
        )

    twice = [message("dead-letters", 0, i, letter(f"d{i}"), "events/1/2") for i in (0, 1)]
    opened.write(batch(opened, twice))
    assert rows(pg, "SELECT detail, payload, key FROM {s}.dead_letters") == [("d1", b"x", b"")]


def test_an_event_sent_twice_is_one_log_line(
    pg: Any, opened: Any, message: Any, batch: Any
) -> None:
    event = Request(user_id="u", timestamp=NOON, method_name="list", context={"a": 'q"uote,'})
    opened.write(batch(opened, [message("events", 0, i, event) for i in (0, 1)]))
    opened.write(batch(opened, [message("events", 0, 2, event)]))
    assert rows(pg, "SELECT source_offset, context FROM {s}.performance_logs") == [
        (0, {"a": 'q"uote,'})
    ]


def test_a_row_without_its_key_is_told_and_left_out(
    pg: Any, opened: Any, message: Any, batch: Any, update: Any, caplog: pytest.LogCaptureFixture
) -> None:
    records = [update("a", 1.0, version=None), update("b", 1.0)]
    opened.write(
        batch(opened, [message("metrics", 0, i, r, str(i)) for i, r in enumerate(records)])
    )
    assert pg.contents() == {"b": 1.0}
    assert "1 records of metrics lack their key" in caplog.text


def test_old_partitions_go_as_the_log_moves_on(
    pg: Any, message: Any, batch: Any, update: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    sink = PostgresSink(pg.dsn, pg.schema, retention_days=7)
    sink.open({("metrics", 0): Log()})

    def write(offset: int, name: str, start: int) -> None:
        row = update(name, 1.0, window_start=start)
        sink.write(batch(sink, [message("metrics", 0, offset, row, name)]))

    write(0, "old", NOON - 400 * DAY)  # a log of long ago is not dropped as it arrives
    assert pg.contents() == {"old": 1.0}
    sink._dropped_at.clear()
    with psycopg.connect(pg.dsn) as reader:
        reader.execute(f"SELECT * FROM {pg.schema}.metrics")
        write(1, "new", NOON)  # a reader in the way: later
    assert pg.contents() == {"old": 1.0, "new": 1.0}
    assert "stay for now" in caplog.text
    write(2, "other", NOON)  # not again at once
    sink._dropped_at.clear()
    write(3, "newer", NOON + DAY)
    assert pg.contents() == {"new": 1.0, "other": 1.0, "newer": 1.0}
    write(4, "late", NOON - 400 * DAY)  # its partition is made once more
    assert "late" in pg.contents()


def test_a_partition_dropped_by_somebody_else_is_made_again(pg: Any, opened: Any) -> None:
    opened.write(pg.batch(0, 0, ("a", 1.0)))
    rows(pg, "DROP TABLE {s}.metrics_20260101")
    second = pg.batch(0, 1, ("b", 2.0))
    with pytest.raises(Retryable):
        opened.write(second)
    opened.write(second)
    assert pg.contents() == {"b": 2.0}


def test_nothing_outlives_a_transaction(pg: Any, opened: Any) -> None:
    # What a connection of PgBouncer in transaction mode must not carry to the next client.
    for offset in range(8):
        opened.write(pg.batch(0, offset, ("a", 1.0)))
    connection = opened._connection
    assert connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
    query = "SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()"
    assert connection.execute(query).fetchone() == (0,)
    query = "SELECT count(*) FROM pg_settings WHERE source = 'session' AND name LIKE '%timeout'"
    assert connection.execute(query).fetchone() == (0,)
    assert connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
                              " AND pid = pg_backend_pid()").fetchone() == (0,)  # fmt: skip


def test_a_batch_of_twenty_thousand_rows_takes_seconds_at_most(pg: Any) -> None:
    # Of this process, for machines that do other things as well; `make bench` measures.
    sink = pg.sink()
    sink.open({("metrics", 0): Log()})
    count = 10_000
    lists = {"metrics": ["views", "clicks"], "values": [1.0, 2.0]}
    lists |= {"numerators": [1.0, 2.0], "denominators": [1.0, 1.0]}
    frame = pl.DataFrame({"offset": range(count)}).select(
        pl.lit(0, pl.Int32).alias("partition"),
        "offset",
        pl.lit(NOON).alias("window_start"),
        pl.lit("1m").alias("window_size"),
        pl.concat_str(pl.lit('{"page":"/'), "offset", pl.lit('"}')).alias("dimensions"),
        pl.lit("abcdef01").alias("version"),
        pl.lit(3).alias("users"),
        pl.lit(False).alias("is_final"),
        *(pl.concat_list(map(pl.lit, parts)).alias(name) for name, parts in lists.items()),
    )
    began = time.process_time()
    sink.write(Batch(topic="metrics", ranges={0: Range(start=0, end=count)}, frame=frame))
    assert time.process_time() - began < 4
    assert rows(pg, "SELECT count(*) FROM {s}.metrics") == [(2 * count,)]
