"""What the demo says of people who moved: the latest of each kind, with the reason."""

import uuid
from collections.abc import Iterator

import psycopg
import pytest

from streamgauge.cli.demo.moves import COUNTS, LATEST, Moved
from streamgauge.sinks.postgres.migrate import migrate

ROWS = """
    INSERT INTO user_segments (user_id, segment, entered_at, left_at, reason_in, reason_out,
        source_partition, source_offset, source_generation) VALUES
        ('ann', 'new', '2026-01-01 09:00Z', '2026-01-08 10:00Z', '{"days_since_first": 0}',
         '{"days_since_first": 7}', 0, 0, 0),
        ('bob', 'new', '2026-01-02 09:00Z', NULL, '{"days_since_first": 0}', NULL, 0, 0, 0),
        ('cyd', 'new', '2026-01-01 08:00Z', NULL, '{"change": "rule v2"}', NULL, 0, 0, 0);
"""


@pytest.fixture
def moved(postgres: str) -> Iterator[Moved]:
    schema = f"t_{uuid.uuid4().hex[:8]}"
    migrate(postgres, schema)
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute(f"SET search_path TO {schema}".encode())
        connection.execute(ROWS.encode())
        [(entered, left)] = connection.execute(COUNTS.format(schema=schema).encode()).fetchall()
        latest = connection.execute(LATEST.format(schema=schema).encode(), [10]).fetchall()
        yield Moved.of(entered, left, latest)
        connection.execute(f"DROP SCHEMA {schema} CASCADE".encode())


@pytest.mark.postgres
def test_the_latest_of_each_kind_is_told_with_its_reason(moved: Moved) -> None:
    assert (moved.entered, moved.left) == (3, 1)
    assert [(one["user_id"], one["move"]) for one in moved.latest] == [
        ("ann", "leaves"),
        ("bob", "enters"),
    ]
    first, *lines = moved.text().splitlines()
    assert "3 times somebody entered one, 1 times" in first
    assert lines[0].split() == [
        *("2026-01-08", "10:00", "ann", "leaves", "new"),
        *("because", "days_since_first", "=", "7"),
    ]
    assert moved.as_dict()["latest"][1]["reason"] == {"days_since_first": 0}
