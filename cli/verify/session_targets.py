"""What the targets say of sessions, beside what the raw log says.

Upstream: `sessions.py` computed them again. Downstream: the report. Everything must be equal. Where
events keep coming, only sessions that were over at the cut are compared: nothing changes them.
"""

from collections.abc import Iterator, Mapping
from typing import Any, LiteralString

from streamgauge.cli.verify import compare
from streamgauge.cli.verify.config import VerifyConfig
from streamgauge.cli.verify.log import Log
from streamgauge.cli.verify.postgres import Tables
from streamgauge.cli.verify.report import Comparison
from streamgauge.cli.verify.sessions import Sessions
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.topics import DEVICE_SESSIONS, SESSIONS

TABLES = (SESSIONS.name, DEVICE_SESSIONS.name)
"""Topics that the Postgres sink reads."""

_SAID = (
    *("user_id", "started_at", "ended_at", "duration_seconds", "events", "page_views"),
    *("entry_page", "exit_page", "conversions", "playbacks", "is_bounce", "is_binge", "is_final"),
)
_SQL: LiteralString = (
    "user_id, (extract(epoch FROM started_at) * 1000)::bigint,"
    " (extract(epoch FROM ended_at) * 1000)::bigint, duration_seconds, events, page_views,"
    " entry_page, exit_page, conversions, playbacks, is_bounce, is_binge, is_final"
)

Rows = dict[str, dict[str, Any]]


def compare_sessions(
    fold: Sessions,
    config: VerifyConfig,
    log: Log,
    codec: Codec,
    tables: Tables | None,
    *,
    closed_only: bool,
) -> Iterator[Comparison]:
    """Each target."""
    for name in TABLES:
        topic, by_device = config.topic(name), name == DEVICE_SESSIONS.name
        if not log.exists(topic):
            continue
        rows = fold.rows(by_device=by_device)
        if closed_only:
            rows = {key: row for key, row in rows.items() if row["is_final"]}

        def kept(found: Rows, expected: Rows = rows) -> Rows:
            if not closed_only:
                return found
            return {
                key: row
                for key, row in found.items()
                if key in expected
                or (row["is_final"] and fold.passed(row["started_at"], row["ended_at"]))
            }

        found = _of_topic(log.last_values(topic), codec, by_device)
        comparison = compare.rows(name, rows, kept(found))
        yield comparison if log.is_whole(topic) else compare.without_missing(comparison)
        if tables is not None:
            table = name.replace("-", "_")
            told = {_clean(key): _clean_row(row) for key, row in rows.items()}
            yield compare.rows(f"postgres.{table}", told, kept(_of_table(tables, table), told))


def _of_topic(values: Mapping[bytes | None, bytes], codec: Codec, by_device: bool) -> Rows:
    found = {}
    names = ("device_type", *_SAID) if by_device else _SAID
    for key, value in values.items():
        record = codec.decode(value).record
        found[(key or b"").decode()] = {name: record[name] for name in names}
    return found


def _of_table(tables: Tables, table: str) -> Rows:
    if table == "sessions":
        rows = [dict(zip(_SAID, row, strict=True)) for row in tables.select(table, _SQL)]
        return {f"{row['user_id']}|{row['started_at']}": row for row in rows}
    found = {}
    for device, *values in tables.select(table, "device_type, " + _SQL):
        row = {"device_type": device or None, **dict(zip(_SAID, values, strict=True))}
        found[f"{row['user_id']}|{device}|{row['started_at']}"] = row
    return found


def _clean_row(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _clean(value) if isinstance(value, str) else value for name, value in row.items()}


def _clean(text: str) -> str:
    """As the table has it: Postgres takes no NUL."""
    return text.replace("\0", "\ufffd")
