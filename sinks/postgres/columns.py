"""Columns of rows as Postgres takes them: where a row came from, times, JSON, texts, bytes.

Upstream: decoded batches. Downstream: `tables.py` and its neighbours, which make rows of them.
"""

from __future__ import annotations

import polars as pl

_EARLIEST, _LATEST = -62_135_596_800_000, 253_402_300_799_000


def source() -> tuple[pl.Expr, pl.Expr]:
    """Where in its topic the row lay; it never goes back."""
    return (
        pl.col("partition").alias("source_partition"),
        pl.col("offset").alias("source_offset"),
    )


def time(times: pl.Expr) -> pl.Expr:
    """As far as Postgres and Python can say it; int ms."""
    return times.clip(_EARLIEST, _LATEST)


def hexed(name: str) -> pl.Expr:
    """Bytes."""
    return pl.format("\\x{}", pl.col(name).bin.encode("hex")).alias(name)


def json_text(column: pl.Expr) -> pl.Expr:
    """jsonb refuses an escaped NUL as text refuses a plain one. A backslash escapes the next.

    Twice, because a match takes the character before with it.
    """
    for _ in range(2):
        column = column.str.replace_all(r"((?:^|[^\\])(?:\\\\)*)\\u0000", "${1}\ufffd")
    return column


def array(name: str) -> pl.Expr:
    """A list of texts or numbers as Postgres writes an array; an absent one is empty."""
    texts = pl.col(name).cast(pl.List(pl.String)).fill_null([])
    escaped = pl.element().str.replace_all(r'(["\\])', r"\$1")
    quoted = texts.list.eval(pl.concat_str(pl.lit('"'), escaped, pl.lit('"'))).list.join(",")
    return pl.concat_str(pl.lit("{"), quoted, pl.lit("}")).alias(name)


def clean(rows: pl.DataFrame) -> pl.DataFrame:
    """Text without NUL, which Postgres refuses."""
    return rows.with_columns(pl.col(pl.String).str.replace_all("\0", "\ufffd", literal=True))
