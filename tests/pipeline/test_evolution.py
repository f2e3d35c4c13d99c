"""A type gets a new field while everything runs: writers of both versions, no restart.

v1: campaign, amount             ──┐
v2: campaign, amount, currency   ──┴─> events ──> worker (knows v1) ──> metrics ──> Postgres
                                          └─────> archive: the column currency from v2 on
"""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import psycopg
import pytest

from streamgauge.cli.settings import Settings
from streamgauge.cli.stack.stack import Stack
from streamgauge.producers import Client
from streamgauge.schemas.envelope import COLUMNS, EVENT_TYPES, Event
from streamgauge.schemas.events import load_event_schema

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

DEFINITIONS = """\
metrics:
  - name: donated
    description: Money given.
    events: [donation]
    aggregate: sum
    field: amount
    by: [[campaign]]
"""
V1 = {"campaign": "string", "amount": "double"}
V2 = V1 | {"currency": "string"}


@pytest.fixture
def types(tmp_path: Path) -> Iterator[tuple[Path, type[Event], type[Event]]]:
    """The .avsc file of the first version, and both versions as classes."""
    classes = []
    for name, fields in (("v1", V1), ("v2", V2)):
        record = {
            "type": "record",
            "name": "Donation",
            "fields": [{"name": key, "type": ["null", kind]} for key, kind in fields.items()],
        }
        (tmp_path / f"{name}.avsc").write_text(json.dumps(record))
        classes.append(load_event_schema(tmp_path / f"{name}.avsc"))
        del EVENT_TYPES["donation"]
    yield tmp_path / "v1.avsc", *classes
    for name in V2:
        COLUMNS.pop(name)


def test_a_new_field_flows_through_without_a_restart(
    kafka: str, postgres: str, namespace: str, registry_url: str, tmp_path: Path, types: Any
) -> None:
    known, old, new = types
    (tmp_path / "metrics.yaml").write_text(DEFINITIONS)
    settings = Settings(
        kafka=kafka,
        postgres=postgres,
        registry=registry_url,
        namespace=namespace,
        dir=tmp_path / "state",
        archive=tmp_path / "archive",
        event_modules=(str(known),),
        definitions=tmp_path / "metrics.yaml",
    )
    given: dict[str, Any] = {"user_id": "ada", "campaign": "trees", "timestamp": 1_767_268_800_000}

    def donated() -> float | None:
        with psycopg.connect(postgres) as connection:
            row = connection.execute(
                f"SELECT value FROM {namespace.replace('-', '_')}.metrics"
                " WHERE metric = 'donated' AND window_size = '1h'"
            ).fetchone()
        return row[0] if row else None

    def archived() -> list[tuple[float, str | None]]:
        files = f"{settings.archive}/{namespace}/events/**/*.parquet"
        return duckdb.sql(
            f"SELECT amount, currency FROM read_parquet('{files}', union_by_name=true)"
            " WHERE event_type = 'donation' ORDER BY amount"
        ).fetchall()

    with (
        Stack(settings, tmp_path / "stack", sinks=("postgres", "archive")) as stack,
        Client(kafka=kafka, registry=registry_url, namespace=namespace) as older,
        Client(kafka=kafka, registry=registry_url, namespace=namespace) as newer,
    ):
        older.track(old(**given, amount=1))
        assert eventually(donated, 1)
        running = [child.pid for child in stack.children]
        newer.track(new(**given, amount=10, currency="EUR"))
        older.track(old(**given, amount=100))
        newer.track(new(**given, amount=1000))
        assert eventually(donated, 1111)
        expected = [(1.0, None), (10.0, "EUR"), (100.0, None), (1000.0, None)]
        assert eventually(archived, expected)
        stack.check()
        assert [child.pid for child in stack.children] == running


def eventually(question: Callable[[], Any], expected: Any) -> bool:
    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        try:
            found = question()
        except (psycopg.Error, duckdb.Error):  # no table, no file, no such column yet
            found = None
        if found == expected:
            return True
        time.sleep(0.3)
    raise AssertionError(f"found {found}, not {expected}")
