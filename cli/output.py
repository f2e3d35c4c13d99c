"""What commands print: text or a table for people, JSON for programs (`--json`)."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import zip_longest
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

option: Callable[[F], F] = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON instead of text."
)


def write(value: Any, as_json: bool, text: str) -> None:
    """One result: JSON on one line, or `text`."""
    click.echo(json.dumps(value, default=str) if as_json else text)


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], as_json: bool) -> None:
    """Rows: one JSON object a line, or an aligned table."""
    if as_json:
        for row in rows:
            click.echo(json.dumps(row, default=str))
        return
    texts = [["" if row[name] is None else str(row[name]) for name in columns] for row in rows]
    click.echo(aligned([[name.replace("_", " ") for name in columns], *texts]))


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Cells as columns; lines may end early."""
    widths = [max(map(len, column)) for column in zip_longest(*lines, fillvalue="")]
    padded = (map(str.ljust, line, widths) for line in lines)
    return "\n".join("  ".join(line).rstrip() for line in padded)
