"""`streamgauge metrics`: definitions, and the values in Postgres.

Metrics of events are in the table `metrics`; those of sessions and users are read from views
(`schemas/view_metrics.py`) in the same shape. Where a name is defined twice, events have it.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from psycopg import Connection, connect, sql
from psycopg.rows import dict_row

from streamgauge.cli import output
from streamgauge.cli.settings import Settings, configured, schema_name
from streamgauge.schemas.metric_file import suggest
from streamgauge.schemas.metrics import Definitions, builtin, load_definitions
from streamgauge.schemas.view_metrics import ViewMetric, view_metrics

QUERY = """
    SELECT window_start, window_size, metric, dimensions, value, numerator, denominator, users,
           is_final
    FROM {source}
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
    """Every metric: of events, and those that are read from a view of sessions or users."""
    definitions = _definitions(settings)
    rows = [
        {
            "name": series.name,
            "aggregate": series.aggregate,
            "by": "; ".join(",".join(by) or "(total)" for by in series.dimensions),
            "windows": ",".join(series.windows),
            "unit": series.unit,
            "source": "events",
            "description": series.description,
        }
        for series in definitions.series()
    ]
    rows += [
        {
            "name": one.name,
            "aggregate": one.aggregate,
            "by": ",".join(one.dimensions) or "(total)",
            "windows": one.window,
            "unit": one.unit,
            "source": f"{one.view}.{one.value}",
            "description": one.description,
        }
        for one in _views(definitions).values()
    ]
    columns = ("name", "aggregate", "by", "windows", "unit", "source", "description")
    output.table(rows, columns, as_json)


@metrics.command()
@configured("definitions")
@click.argument("name")
def show(settings: Settings, name: str) -> None:
    """Print one definition.

    Of a metric of events with the version of each grain it is in; of one that is read from a view
    with the columns of the view, whose comments in Postgres say what they are.

    \b
    Examples:
      streamgauge metrics show page_views
      streamgauge metrics show binge_rate
    """
    definitions = _definitions(settings)
    found = next((one for one in definitions.metrics if one.name == name), None)
    if found is None:
        click.echo(json.dumps(_view(definitions, name).model_dump(exclude_none=True), indent=2))
        return
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
@configured("postgres", "namespace", "definitions", "dir")
@click.argument("name")
@click.option(
    "--window",
    type=click.Choice(["1m", "1h", "1d", "1w"]),
    help="Size of the windows (default: 1h; of a metric read from a view: its own).",
)
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
    window: str | None,
    as_json: bool,
    **asked: Any,
) -> None:
    """Read a metric from Postgres, newest windows first.

    \b
    Examples:
      streamgauge metrics query page_views --window 1h --by page --limit 20
      streamgauge metrics query binge_rate --since 2026-01-31
    """
    view = _views(_definitions(settings)).get(name)
    if view and window not in (None, view.window):
        raise click.UsageError(f"{name} is of windows of {view.window}, not {window}")
    wrong = [pair for pair in where if "=" not in pair]
    if wrong:
        raise click.UsageError(f"--where is KEY=VALUE, not {wrong[0]}")
    asked |= {
        "metric": name,
        "window": view.window if view else window or "1h",
        "dimensions": None if by is None else sorted(part for part in by.split(",") if part),
        "where": json.dumps(dict(pair.split("=", 1) for pair in where)),
    }
    with connect(settings.need("postgres"), autocommit=True) as connection:
        rows = select(connection, settings.namespace, asked, view)
    for row in rows:
        row["window_start"] = row["window_start"].isoformat()
        if not as_json:
            row["dimensions"] = " ".join(f"{key}={it}" for key, it in row["dimensions"].items())
    output.table(rows, COLUMNS if not as_json else (), as_json)


def select(
    connection: Connection[Any],
    namespace: str,
    asked: Mapping[str, Any],
    view: ViewMetric | None = None,
) -> list[dict[str, Any]]:
    """Rows of the table `metrics`, or of a view in its shape, by the parameters of QUERY."""
    schema = schema_name(namespace)
    source = _source(schema, view) if view else sql.Identifier(schema, "metrics")
    with connection.cursor(row_factory=dict_row) as cursor:
        return cursor.execute(sql.SQL(QUERY).format(source=source), asked).fetchall()


def _views(definitions: Definitions) -> dict[str, ViewMetric]:
    """Metrics that are read from views, and whose names no metric of events has."""
    taken = {one.name for one in definitions.series()}
    return {name: one for name, one in view_metrics().items() if name not in taken}


def _view(definitions: Definitions, name: str) -> ViewMetric:
    views = _views(definitions)
    if name not in views:
        names = [*(one.name for one in definitions.metrics), *views]
        raise click.UsageError(f"there is no metric {name}: {suggest(name, names)}")
    return views[name]


def _source(schema: str, view: ViewMetric) -> sql.Composed:
    def column(name: str | None) -> sql.Composable:
        return sql.Identifier(name) if name else sql.NULL

    def dimensions() -> sql.Composable:
        pairs = (part for name in view.dimensions for part in (sql.Literal(name), column(name)))
        return sql.SQL("jsonb_build_object({})").format(sql.SQL(", ").join(pairs))

    where = [
        sql.SQL("{} = {}").format(column(name), sql.Literal(text))
        for name, text in view.where.items()
    ]
    return sql.SQL(
        """(SELECT {start} AS window_start, {window} AS window_size,
        {name} AS metric, {dimensions} AS dimensions, {value}::double precision AS value,
        {numerator}::double precision AS numerator, {denominator}::double precision AS denominator,
        {users}::bigint AS users, coalesce({final}::boolean, false) AS is_final
        FROM {view} WHERE {where}) AS metrics"""
    ).format(
        start=column(view.start),
        window=sql.Literal(view.window),
        name=sql.Literal(view.name),
        dimensions=dimensions(),
        value=column(view.value),
        numerator=column(view.numerator),
        denominator=column(view.denominator),
        users=column(view.users),
        final=column(view.final),
        view=sql.Identifier(schema, view.view),
        where=sql.SQL(" AND ").join([sql.SQL("true"), *where]),
    )
