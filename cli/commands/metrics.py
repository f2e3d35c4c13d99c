"""`streamgauge metrics`: definitions, and the values in Postgres."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from psycopg import Connection, connect, sql
from psycopg.rows import dict_row

from streamgauge.cli import output
from streamgauge.cli.settings import Settings, configured
from streamgauge.schemas.metrics import Definitions, builtin, load_definitions

QUERY = """
    SELECT window_start, window_size, metric, dimensions, value, numerator, denominator, users,
           is_final
    FROM {schema}.metrics
    WHERE metric = %(metric)s AND window_size = %(window)s AND dimensions @> %(where)s::jsonb
      AND (%(dimensions)s::text[] IS NULL
           OR ARRAY(SELECT jsonb_object_keys(dimensions) ORDER BY 1) = %(dimensions)s::text[])
      AND window_start >= coalesce(%(since)s::timestamptz, '-infinity')
      AND window_start < coalesce(%(until)s::timestamptz, 'infinity')
    ORDER BY window_start DESC, value DESC NULLS LAST, dimensions::text
    LIMIT %(limit)s
"""
COLUMNS = ("window_start", "dimensions", "value", "numerator", "denominator", "users", "is_final")


@click.group()
def metrics() -> None:
    """List, show, validate and query metrics.

    \b
    Examples:
      streamgauge metrics list
      streamgauge metrics validate metrics.yaml
      streamgauge metrics query page_views --window 1h --by page --limit 20
      streamgauge metrics query page_views --where page=/pricing --since 2026-01-31
    """


def _definitions(settings: Settings) -> Definitions:
    return load_definitions(settings.definitions) if settings.definitions else builtin()


@metrics.command("list")
@configured("definitions")
@output.option
def list_(settings: Settings, as_json: bool) -> None:
    """Every metric that is computed."""
    rows = (
        {
            "name": series.name,
            "aggregate": series.aggregate,
            "by": "; ".join(",".join(by) or "(total)" for by in series.dimensions),
            "windows": ",".join(series.windows),
            "unit": series.unit,
            "description": series.description,
        }
        for series in _definitions(settings).series()
    )
    columns = ("name", "aggregate", "by", "windows", "unit", "description")
    output.table(rows, columns, as_json)


@metrics.command()
@configured("definitions")
@click.argument("name")
def show(settings: Settings, name: str) -> None:
    """Print one definition, with the version of each grain it is in."""
    definitions = _definitions(settings)
    found = next((one for one in definitions.metrics if one.name == name), None)
    if found is None:
        names = ", ".join(sorted(one.name for one in definitions.metrics))
        raise click.UsageError(f"there is no metric {name}: there are {names}")
    versions = {
        ",".join(grain.dimensions) or "(total)": grain.version
        for grain in definitions.grains()
        if any(metric.name == name for metric in grain.metrics)
    }
    said = found.model_dump(exclude_none=True, exclude_defaults=True)
    click.echo(json.dumps({**said, "versions": versions}, indent=2))


@metrics.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@output.option
def validate(file: Path, as_json: bool) -> None:
    """Check a FILE of definitions; exits 1 and names line and fault where it is wrong."""
    series = load_definitions(file).series()
    text = f"{file}: {len(series)} series, with the built-in ones unless it says `extends: none`"
    output.write({"file": str(file), "series": [one.name for one in series]}, as_json, text)


@metrics.command()
@configured("postgres", "namespace", "dir")
@click.argument("name")
@click.option("--window", type=click.Choice(["1m", "1h", "1d"]), default="1h", show_default=True)
@click.option("--by", metavar="A,B", help="Rows with exactly these dimensions (default: any).")
@click.option("--where", multiple=True, metavar="KEY=VALUE", help="Rows with this dimension.")
@click.option("--since", metavar="TIME", help="From this time on (ISO 8601).")
@click.option("--until", metavar="TIME", help="Before this time (ISO 8601).")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@output.option
def query(
    settings: Settings,
    name: str,
    by: str | None,
    where: tuple[str, ...],
    as_json: bool,
    **asked: Any,
) -> None:
    """Read a metric from Postgres, newest windows first."""
    wrong = [pair for pair in where if "=" not in pair]
    if wrong:
        raise click.UsageError(f"--where is KEY=VALUE, not {wrong[0]}")
    asked |= {
        "metric": name,
        "dimensions": None if by is None else sorted(part for part in by.split(",") if part),
        "where": json.dumps(dict(pair.split("=", 1) for pair in where)),
    }
    with connect(settings.need("postgres"), autocommit=True) as connection:
        rows = select(connection, settings.namespace, asked)
    for row in rows:
        row["window_start"] = row["window_start"].isoformat()
        if not as_json:
            row["dimensions"] = " ".join(f"{key}={it}" for key, it in row["dimensions"].items())
    output.table(rows, COLUMNS if not as_json else (), as_json)


def select(
    connection: Connection[Any], namespace: str, asked: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Rows of the table `metrics`, by the parameters of QUERY."""
    with connection.cursor(row_factory=dict_row) as cursor:
        statement = sql.SQL(QUERY).format(schema=sql.Identifier(schema_name(namespace)))
        return cursor.execute(statement, asked).fetchall()


def schema_name(namespace: str) -> str:
    """The namespace's schema in Postgres."""
    return namespace.replace("-", "_") or "streamgauge"
