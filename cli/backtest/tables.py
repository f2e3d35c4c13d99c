"""Tables as files: Parquet, or CSV with times in ISO 8601.

Upstream: `run.py`. A file is there as a whole or not at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import polars as pl

TIMES = ("window_start", "started_at", "ended_at", "timestamp", "watermark")
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
    """Bytes as text: what is not UTF-8 stays legible, \\xff."""
    return table.with_columns(
        pl.Series(
            column.name,
            [v if v is None else v.decode(errors="backslashreplace") for v in column],
            pl.String,
        )
        for column in table
        if column.dtype == pl.Binary
    )
