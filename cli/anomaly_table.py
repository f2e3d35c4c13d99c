"""`streamgauge anomalies list|explain|ack`: the table `anomalies`, and who has taken notice.

Upstream: Postgres, as the sink fills it. Invariant: nothing is written but `anomaly_acks`.
"""

import getpass
from datetime import datetime, timedelta
from typing import Any

import click
from psycopg import connect, sql
from psycopg.rows import dict_row

from streamgauge.cli import output
from streamgauge.cli.errors import CommandError
from streamgauge.cli.settings import Settings, configured, schema_name

COLUMNS = ("id", "severity", "series", "detector", "started_at", "ended_at", "observed")
LIST = """
    SELECT a.anomaly_id AS id, severity, series, detector, started_at, ended_at,
           expected, observed, score, points, user_id, acked_at, acked_by, note
    FROM {schema}.anomalies a LEFT JOIN {schema}.anomaly_acks USING (anomaly_id)
    WHERE (NOT %(active)s OR NOT is_final) AND (%(series)s::text IS NULL OR series = %(series)s)
      AND (%(severity)s::text IS NULL OR severity = %(severity)s)
      AND (%(id)s::text IS NULL OR starts_with(a.anomaly_id, %(id)s))
    ORDER BY is_final, started_at DESC, series, detector LIMIT %(limit)s"""
AROUND = """
    SELECT window_start, value FROM {schema}.metrics
    WHERE metric = %(metric)s AND dimensions = %(dimensions)s::text::jsonb AND window_size = '1m'
      AND window_start BETWEEN %(begin)s AND %(end)s
    ORDER BY window_start LIMIT 200"""
PLACE = "SELECT metric, dimensions::text FROM {schema}.anomalies WHERE anomaly_id = %(id)s"
ACK = """
    INSERT INTO {schema}.anomaly_acks (anomaly_id, acked_by, note) VALUES (%(id)s, %(by)s, %(note)s)
    ON CONFLICT (anomaly_id) DO UPDATE
        SET acked_at = now(), acked_by = excluded.acked_by, note = excluded.note
    RETURNING anomaly_id AS id, acked_at, acked_by, note"""
MEANING = {
    "spike": "this minute is far from its forecast",
    "change": "the mean of 5 minutes is far from the usual level",
    "shift": "the mean of 30 minutes is far from the usual level",
    "unrest": "10 minutes are further from their forecasts than usual",
    "missing": "no value for longer than this series is ever silent",
    "threshold": "beyond the limit for long enough",
    "burst": "far more events a minute than this user's own minutes have had",
    "cap": "more events a minute than any person makes",
    "bot": "too regular for a person, for too long",
    "impossible": "values that cannot be",
}
AROUND_TIME = timedelta(minutes=15)


@click.command("list")
@configured("postgres", "namespace", "dir")
@click.option("--active", is_flag=True, help="Only those that last.")
@click.option("--series", metavar="NAME", help="Only of this series.")
@click.option("--severity", type=click.Choice(["yellow", "red"]))
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True)
@output.option
def list_(settings: Settings, as_json: bool, **asked: Any) -> None:
    """Anomalies, those that last first, then the newest.

    \b
    Examples:
      streamgauge anomalies list --active
      streamgauge anomalies list --series requests --json
    """
    rows = _rows(settings, LIST, {**asked, "id": None})
    output.table(rows, (*COLUMNS, "acked_by"), as_json)


@click.command()
@configured("postgres", "namespace", "dir")
@click.argument("id_", metavar="ID")
@output.option
def explain(settings: Settings, id_: str, as_json: bool) -> None:
    """What a flag says, and the minutes around its start. The beginning of the ID is enough.

    \b
    Example:
      streamgauge anomalies explain 3f9a
    """
    row = _one(settings, id_)
    ((place),) = _rows(settings, PLACE, {"id": row["id"]})
    minutes = []
    if place["metric"] is not None:
        begin: datetime = row["started_at"]
        span = {"begin": begin - AROUND_TIME, "end": begin + AROUND_TIME}
        minutes = _rows(settings, AROUND, {**place, **span})
    row["meaning"] = MEANING.get(row["detector"].partition(":")[0])
    text = [f"{name.replace('_', ' '):12} {value}" for name, value in row.items() if value]
    text += ["", "minutes of the metric around the start:"] if minutes else []
    text += [
        f"  {'>' if one['window_start'] == row['started_at'] else ' '} "
        f"{one['window_start']:%Y-%m-%d %H:%M}  {one['value']:g}"
        for one in minutes
    ]
    output.write({**row, "minutes": minutes}, as_json, "\n".join(text))


@click.command()
@configured("postgres", "namespace", "dir")
@click.argument("id_", metavar="ID")
@click.option("--by", default=getpass.getuser, show_default="the user", help="Who takes notice.")
@click.option("--note", help="A word about it.")
@output.option
def ack(settings: Settings, id_: str, by: str, note: str | None, as_json: bool) -> None:
    """Take notice of an anomaly. It goes on as it is; the list says who knows.

    \b
    Example:
      streamgauge anomalies ack 3f9a --note "deploy of 14:00"
    """
    found = _one(settings, id_)["id"]
    (row,) = _rows(settings, ACK, {"id": found, "by": by, "note": note})
    output.write(row, as_json, f"{row['id']} acknowledged by {row['acked_by']}")


def _one(settings: Settings, id_: str) -> dict[str, Any]:
    asked = dict.fromkeys(("series", "severity")) | {"active": False, "limit": 2, "id": id_}
    rows = _rows(settings, LIST, asked)
    if len(rows) != 1:
        many = f"several anomalies begin with {id_}: give more of the id" if rows else None
        raise CommandError(many or f"no anomaly {id_}: `streamgauge anomalies list` has the ids")
    return rows[0]


def _rows(settings: Settings, query: str, asked: dict[str, Any]) -> list[dict[str, Any]]:
    with connect(settings.need("postgres"), row_factory=dict_row) as connection:
        schema = sql.Identifier(schema_name(settings.namespace))
        return connection.execute(sql.SQL(query).format(schema=schema), asked).fetchall()
