"""`streamgauge experiments results|report`: what running and ended experiments say.

Upstream: the tables of the Postgres sink. Downstream: people, and whoever decides.
"""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import click
from psycopg import connect, sql
from psycopg.rows import dict_row

from streamgauge.cli import output
from streamgauge.cli.settings import Settings, configured, schema_name
from streamgauge.schemas.experiment_report import ROLES, document

LATEST = """
    SELECT * FROM {schema}.experiment_latest WHERE experiment = %s
    ORDER BY array_position(ARRAY['primary', 'secondary', 'guardrail'], role), metric,
             NOT is_control, variant"""
HISTORY = """
    SELECT * FROM {schema}.experiment_results
    WHERE experiment = %s AND (is_control IS FALSE)
    ORDER BY as_of DESC, metric, variant LIMIT %s"""
NAMES = "SELECT DISTINCT experiment FROM {schema}.experiment_latest ORDER BY 1"
SRM_ALARM = 0.001
INTERNAL = ("source_partition", "source_offset", "source_generation", "updated_at")


@click.command()
@configured("postgres", "namespace", "dir")
@click.argument("name")
@click.option("--history", is_flag=True, help="All looks, the newest first.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True, help="Of history.")
@output.option
def results(settings: Settings, name: str, history: bool, limit: int, as_json: bool) -> None:
    """The figures of an experiment as they stand, one row a metric and variant.

    Intervals and p hold at every look. With --json every figure of the table experiment_results.

    \b
    Examples:
      streamgauge experiments results feed-ranking
      streamgauge experiments results feed-ranking --history --limit 20 --json
    """
    rows = _rows(settings, name, HISTORY if history else LATEST, *([limit] if history else []))
    if as_json:
        output.table(rows, (), as_json)
        return
    click.echo(_table(rows, history))


@click.command()
@configured("postgres", "namespace", "dir")
@click.argument("name")
@output.option
def report(settings: Settings, name: str, as_json: bool) -> None:
    """What an experiment found, for people: Markdown; with --json as webhooks send it.

    \b
    Examples:
      streamgauge experiments report feed-ranking > report.md
      streamgauge experiments report feed-ranking --json
    """
    rows = _rows(settings, name, LATEST)
    told = document(name, rows[0]["state"], rows)
    output.write(told, as_json, "" if as_json else "\n".join(_report(name, rows)))


def _rows(settings: Settings, name: str, query: str, *parameters: Any) -> list[dict[str, Any]]:
    schema = sql.Identifier(schema_name(settings.namespace))
    with (
        connect(settings.need("postgres"), autocommit=True) as connection,
        connection.cursor(row_factory=dict_row) as cursor,
    ):
        statement = sql.SQL(query).format(schema=schema)
        rows = cursor.execute(statement, [name, *parameters]).fetchall()
        if not rows:
            names = cursor.execute(sql.SQL(NAMES).format(schema=schema)).fetchall()
            there = ", ".join(row["experiment"] for row in names) or "none yet"
            raise click.UsageError(f"there are no results of {name}: there are those of {there}")
    for row in rows:
        row["as_of"] = row["as_of"].isoformat()
        for column in INTERNAL:
            row.pop(column, None)
    return rows


HEAD = ("metric", "role", "variant", "users", "mean", "lift", "at every look", "relative")
MORE = ("with CUPED", "p", "adjusted", "verdict", "days to go")


def _table(rows: Sequence[dict[str, Any]], history: bool) -> str:
    head = [*(["as of"] if history else []), *HEAD, *MORE]
    lines = [head]
    for row in rows:
        lines.append([*([row["as_of"]] if history else []), *_cells(row)])
    return "\n".join([output.aligned(lines), *_notes(rows)])


def _cells(row: dict[str, Any]) -> list[str]:
    cells = [row["metric"], row["role"], row["variant"], str(row["users"]), _number(row["mean"])]
    if row["is_control"]:
        return [*cells, "(control)"]
    return [
        *cells,
        _number(row["lift_absolute"], "+"),
        _interval(row, "ci_sequential"),
        _percent(row["lift_relative"]),
        _interval(row, "cuped_ci_sequential"),
        _number(row["p_sequential"], digits=3),
        _number(row["p_adjusted"], digits=3),
        row["verdict"] or "",
        _number(row["days_to_go"]),
    ]


def _notes(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    first = rows[0]
    yield f"{first['state']}, as of {first['as_of']}"
    if first["srm_p"] is not None:
        yield f"split as planned (SRM): p {first['srm_p']:.3g}"
        if first["srm_p"] < SRM_ALARM:
            yield "note: the split is not the planned one: find out why before believing any lift"
    if first["users_excluded"]:
        yield f"users seen in several variants, left out: {first['users_excluded']}"
    yield from _ramp((first["analysis"] or {}).get("ramp"))
    told = dict.fromkeys(note for row in rows for note in (row["analysis"] or {}).get("notes", ()))
    yield from (f"note: {note}" for note in told if not note.startswith("SRM: the split"))


def _ramp(ramp: dict[str, Any] | None) -> Iterator[str]:
    if ramp is None:
        return
    now, then = f"allocation {ramp['allocation']:.4g}", ramp["next_allocation"]
    if then is None:
        yield f"{now}: the schedule's last step"
    elif ramp["held"]:
        yield f"{now}, held back from {then:.4g}: {'; '.join(ramp['held'])}"
    else:
        due = datetime.fromtimestamp(ramp["due_at"] / 1000, UTC)
        yield f"{now}, {then:.4g} is due {due:%Y-%m-%d %H:%M} UTC"


def _report(name: str, rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield f"# Experiment {name}"
    yield ""
    yield from (f"- {note}" for note in _notes(rows))
    for role in ROLES:
        mine = [row for row in rows if row["role"] == role]
        if not mine:
            continue
        yield ""
        yield f"## {role.capitalize()} metrics"
        yield ""
        yield f"| {' | '.join((*HEAD[:1], *HEAD[2:], *MORE))} |"
        yield "|" + "---|" * (len(HEAD) + len(MORE) - 1)
        for row in mine:
            metric, _, *cells = _cells(row)
            cells += [""] * (len(HEAD) + len(MORE) - 2 - len(cells))
            yield f"| {' | '.join((metric, *cells))} |"
    yield ""
    yield from (f"- {said}" for said in _conclusions(rows))


def _conclusions(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        if row["is_control"]:
            continue
        who = f"{row['metric']} of {row['variant']}"
        if row["role"] == "guardrail":
            yield f"{who}: {row['verdict']}"
            continue
        low, high = row["ci_sequential_low"], row["ci_sequential_high"]
        if low is None:
            yield f"{who}: nothing can be said yet"
        elif low > 0 or high < 0:
            change = "higher" if low > 0 else "lower"
            yield f"{who}: {change} than control, by {_number(low, '+')} to {_number(high, '+')}"
        else:
            yield f"{who}: no difference shown, it lies within {_interval(row, 'ci_sequential')}"


def _number(value: float | None, sign: str = "", digits: int = 5) -> str:
    return "-" if value is None else f"{value:{sign}.{digits}g}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.3g} %"


def _interval(row: dict[str, Any], name: str) -> str:
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return "-" if low is None else f"{_number(low, '+')} to {_number(high, '+')}"
