"""Tables as files: Parquet, or CSV with times in ISO 8601.

Upstream: `run.py`. A file is there as a whole or not at all.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

TIMES = frozenset(
    {"window_start", "started_at", "ended_at", "timestamp", "watermark"}
    | {"entered_at", "left_at", "at", "date", "first_seen", "last_seen", "computed_at"}
)
"""Columns that hold int ms."""

ISO = "%Y-%m-%dT%H:%M:%S%.3fZ"


def write(tables: Mapping[str, pl.DataFrame], out: Path, *, as_csv: bool) -> None:
    """One file a table: `<name>.parquet`, or `<name>.csv`."""
    out.mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        timed = table.with_columns(
            pl.col(column).cast(pl.Datetime("ms", "UTC"))
            for column in TIMES
            if column in table.columns
        )
        file = out / f"{name}.{'csv' if as_csv else 'parquet'}"
        draft = file.with_name(f"{file.name}.new")
        if as_csv:
            _texts(timed).write_csv(draft, datetime_format=ISO)
        else:
            timed.write_parquet(draft)
        draft.replace(file)


def _texts(table: pl.DataFrame) -> pl.DataFrame:
    """Bytes as text: what is not UTF-8 stays legible, \\xff. Lists as JSON."""
    return table.with_columns(
        pl.Series(column.name, [v if v is None else _text(v) for v in column.to_list()], pl.String)
        for column in table
        if column.dtype == pl.Binary or column.dtype == pl.List
    )


def _text(value: bytes | list[Any]) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    return json.dumps(value, ensure_ascii=False)
