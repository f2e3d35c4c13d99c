"""A CSV of one row a user, as a frame of numbers.

Upstream: somebody's export. Downstream: `streamgauge experiments analyze`. Invariant: what is
not a number is refused with its row, never taken for missing; only an empty cell is missing.
"""

from collections.abc import Mapping
from pathlib import Path

import click
import polars as pl

from streamgauge.cli.errors import CommandError

HEADER = 1  # line


def read_users(file: Path, columns: Mapping[str, str]) -> pl.DataFrame:
    """The columns by the name they get: `variant` as text, all others as finite numbers."""
    try:
        there = pl.read_csv(file, n_rows=0, infer_schema=False).columns
        for wanted in columns.values():
            if wanted not in there:
                raise click.UsageError(f"{file} has no column {wanted}: it has {', '.join(there)}")
        text = pl.read_csv(file, columns=sorted(set(columns.values())), infer_schema=False)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise CommandError(f"{file} is not a CSV file with a header: {reason}") from None
    stripped = text.select(
        pl.col(column).str.strip_chars().replace("", None).alias(name)
        for name, column in columns.items()
    )
    numbers = [name for name in columns if name != "variant"]
    frame = stripped.with_columns(pl.col(numbers).cast(pl.Float64, strict=False))
    for name in numbers:
        wrong = stripped[name].is_not_null() & ~frame[name].is_finite().fill_null(False)
        if wrong.any():
            at = wrong.arg_max() or 0
            raise CommandError(
                f"{file}, row {at + 1} (line {at + 1 + HEADER}): {columns[name]} is "
                f"{stripped[name][at]!r}, which is not a finite number; leave the cell empty if it "
                f"is missing ({wrong.sum()} such rows)"
            )
    return frame
