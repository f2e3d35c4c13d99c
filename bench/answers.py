"""b12: what is known of one user of a million, as the commands answer it from Postgres.

The product's own tables, filled by SQL: three months of sessions, segments entered and left,
devices, anonymous names. Asked for are users at random, and one with thousands of rows.
Invariant: an answer is right only if no plan reads a table that holds rows from end to end.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, LiteralString

import psycopg
from click.testing import CliRunner
from psycopg import sql

from bench.context import Context, say
from bench.rows import Figure, Row
from streamgauge.cli import main
from streamgauge.cli.commands import segments, users
from streamgauge.cli.stack.postgres import LocalPostgres
from streamgauge.sinks.postgres import ranges
from streamgauge.sinks.postgres.migrate import migrate

GOAL_MS = 100
USERS = 1_000_000
MONTHS = [datetime(2026, month, 1, tzinfo=UTC) for month in (1, 2, 3)]
BUSY = "user-0"
BUSY_ROWS = 5_000
ASKED = 50
SCHEMA = "streamgauge"
_SEGMENTS = "(ARRAY['new','active','power','at_risk','dormant','explorer'])[1 + (n / {users}) % 6]"
_SOURCE = {"source_partition": "n % 4", "source_offset": "n", "source_generation": "0"}
_BEGAN = "timestamptz '2026-01-01 08:00Z' + (n / {users}) * interval '30 days'"
_TABLES: Mapping[str, tuple[float, Mapping[str, str]]] = {
    # Rows a user, and what their columns are; columns that are not named here get what suits
    # their type.
    "user_profiles": (1, {"user_id": "'user-' || n"}),
    "user_device_preferences": (
        1.5,
        {
            "user_id": "'user-' || n % {users}",
            "device_type": "CASE WHEN n < {users} THEN 'mobile' ELSE 'tv' END",
        },
    ),
    "user_links": (0.2, {"anonymous_id": "'anonymous-' || n", "user_id": "'user-' || n"}),
    "sessions": (
        3,
        {
            "user_id": "'user-' || n % {users}",
            "started_at": _BEGAN + " + (n % 600) * interval '1 hour'",
        },
    ),
    "user_segments": (
        3,
        {
            "user_id": "'user-' || n % {users}",
            "segment": _SEGMENTS,
            "entered_at": _BEGAN,
            "left_at": f"CASE WHEN n < 2 * {{users}} THEN {_BEGAN} + interval '9 days' END",
        },
    ),
}
_BUSY: Mapping[str, Mapping[str, str]] = {
    "sessions": {
        "user_id": f"'{BUSY}'",
        "started_at": "timestamptz '2026-01-01 00:01Z' + n * interval '20 minutes'",
    },
    "user_segments": {
        "user_id": f"'{BUSY}'",
        "segment": "'active'",
        "entered_at": "timestamptz '2026-01-01 00:01Z' + n * interval '20 minutes'",
        "left_at": "timestamptz '2026-01-01 00:11Z' + n * interval '20 minutes'",
    },
}
_OF_TYPE = {
    "text": "'/courses/' || n % 1000",
    "bigint": "n % 97",
    "integer": "n % 24",
    "double precision": "(n % 1000) / 10.0",
    "boolean": "n % 3 = 0",
    "timestamp with time zone": "timestamptz '2026-03-01 10:00Z'",
    "text[]": "ARRAY['drama','crime']",
    "integer[]": "ARRAY[8,20]",
    "jsonb": """jsonb_build_object('events', n % 97, 'days_since_last_seen', 28)""",
}
_COLUMNS = """
    SELECT attname, format_type(atttypid, NULL) FROM pg_attribute
    WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
Commands = Mapping[str, tuple[Sequence[str], Mapping[LiteralString, Mapping[str, Any]]]]


def answers(context: Context) -> list[Row]:
    """Each command: its queries, the command in this process, and a process of its own."""
    count = USERS if context.events > USERS else context.events
    with LocalPostgres(context.folder / "postgres", durable=False) as postgres:
        began = time.monotonic()
        _fill(postgres.dsn, count)
        say(f"b12: tables of {count:,} users filled in {time.monotonic() - began:.0f} s")
        os.environ["STREAMGAUGE_POSTGRES"] = postgres.dsn
        try:
            with psycopg.connect(postgres.dsn, autocommit=True) as connection:
                return [
                    _measured(connection, command, name, count)
                    for command in _commands(BUSY)
                    for name in ("of any user", "of the busiest")
                ]
        finally:
            del os.environ["STREAMGAUGE_POSTGRES"]


def _commands(user: str) -> Commands:
    names = {"names": [user, f"anonymous-{user.removeprefix('user-')}"], "user": user}
    timeline = {**names, "since": "-infinity", "limit": 50}
    stays = {"user": user, "history": True, "limit": 100}
    return {
        "users show": (
            ("users", "show", user),
            dict.fromkeys((users.NAMES, users.PROFILE, users.SEGMENTS, users.DEVICES), names),
        ),
        "users timeline": (
            ("users", "timeline", user),
            {users.NAMES: names, users.TIMELINE: timeline},
        ),
        "segments explain": (("segments", "explain", user, "--history"), {segments.STAYS: stays}),
    }


def _measured(connection: psycopg.Connection[Any], command: str, whose: str, count: int) -> Row:
    step = max(1, count // ASKED)
    asked = [f"user-{n}" for n in range(7, count, step)] if "any" in whose else [BUSY] * ASKED
    queries, inside, fresh = [], [], []
    for user in asked:
        arguments, statements = _commands(user)[command]
        queries.append(_ms(lambda said=statements: _ask(connection, said)))
        inside.append(_ms(lambda line=arguments: _run(line)))
    for user in asked[:5]:
        line = [sys.executable, "-m", "streamgauge.cli", *_commands(user)[command][0]]
        fresh.append(_ms(lambda line=line: subprocess.run(line, check=True, capture_output=True)))
    scanned = _scanned(connection, _commands(asked[0])[command][1])
    say(f"b12: {command} {whose}: {statistics.median(inside):.1f} ms; scanned: {scanned}")
    return Row(
        name=f"{command} {whose}",
        figures={
            "queries p50": Figure(value=statistics.median(queries), unit="ms"),
            "queries p95": Figure(value=_p95(queries), unit="ms"),
            "command p50": Figure(value=statistics.median(inside), unit="ms"),
            "command p95": Figure(value=_p95(inside), unit="ms", at_most=GOAL_MS),
            "new process": Figure(value=min(fresh), unit="ms"),
        },
        facts={"users": f"{count:,}"},
        right=not scanned,
    )


def _ask(
    connection: psycopg.Connection[Any], statements: Mapping[LiteralString, Mapping[str, Any]]
) -> None:
    for query, parameters in statements.items():
        connection.execute(sql.SQL(query).format(schema=sql.Identifier(SCHEMA)), parameters)


def _run(arguments: Sequence[str]) -> None:
    result = CliRunner().invoke(main, arguments)
    if result.exit_code or len(result.output.splitlines()) < 3:
        raise RuntimeError(f"{arguments}: {result.output}")


def _ms(work: Callable[[], Any]) -> float:
    began = time.perf_counter()
    work()
    return (time.perf_counter() - began) * 1000


def _p95(values: Sequence[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def _scanned(
    connection: psycopg.Connection[Any], statements: Mapping[LiteralString, Mapping[str, Any]]
) -> list[str]:
    """Tables that a plan reads from end to end."""
    found = []
    for query, parameters in statements.items():
        explain = sql.SQL("EXPLAIN (FORMAT JSON) ") + sql.SQL(query).format(
            schema=sql.Identifier(SCHEMA)
        )
        [[[plan]]] = connection.execute(explain, parameters).fetchall()
        nodes = [plan["Plan"]]
        while nodes:
            node = nodes.pop()
            nodes += node.get("Plans", ())
            if node["Node Type"] == "Seq Scan":
                found.append(node["Relation Name"])
    return found


def _fill(dsn: str, count: int) -> None:
    migrate(dsn, SCHEMA)
    with psycopg.connect(dsn, autocommit=True) as connection:
        cut = ranges.Ranges(table="sessions", column="started_at", unit="month")
        ranges.make(connection, SCHEMA, cut, MONTHS)
        for table, (rows, given) in _TABLES.items():
            _insert(connection, table, given, f"generate_series(0, {int(rows * count) - 1})", count)
        for table, given in _BUSY.items():
            _insert(connection, table, given, f"generate_series(0, {BUSY_ROWS - 1})", count)
        connection.execute("ANALYZE")


def _insert(
    connection: psycopg.Connection[Any],
    table: str,
    given: Mapping[str, str],
    numbers: str,
    count: int,
) -> None:
    where = sql.Identifier(SCHEMA, table)
    columns = connection.execute(_COLUMNS, [where.as_string()]).fetchall()
    known = {**_SOURCE, **given}
    values = ", ".join(
        known[name].format(users=count) if name in known else _OF_TYPE.get(kind, "NULL")
        for name, kind in columns
    )
    text = f"INSERT INTO {where.as_string()} SELECT {values} FROM {numbers} AS n"
    connection.execute(text.encode() + b" ON CONFLICT DO NOTHING")
