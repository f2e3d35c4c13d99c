"""`streamgauge anomalies actions|undo`: what is done about users by policy, and taking it back.

Upstream: the table `actions`, as the sink fills it. Downstream: the topic `actions`, whose last row
of a key is the truth for the collector as well; and `events`, where a marker ends an exclusion, the
row of which the worker writes. Invariant: an undone action is the row as it was, with who undid it.
"""

import getpass
import time
from datetime import UTC, datetime
from typing import Any

import click
from confluent_kafka import KafkaException, Producer
from psycopg import connect, sql
from psycopg.rows import dict_row

from streamgauge.cli import output
from streamgauge.cli.errors import CommandError
from streamgauge.cli.settings import Settings, configured, schema_name
from streamgauge.schemas import control
from streamgauge.schemas.anomaly_records import Action
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.exclusions import Undone
from streamgauge.schemas.registry import open_registry
from streamgauge.schemas.topics import ACTIONS, qualified

COLUMNS = ("anomaly_id", "action", "user_id", "rate", "detector", "severity", "started_at")
FIELDS = tuple(name for name in Action.__dataclass_fields__ if name != "partition")
EXCLUDE = "exclude"
LIST = """
    SELECT {fields} FROM {schema}.actions
    WHERE (NOT %(active)s OR (ended_at IS NULL AND undone_at IS NULL))
      AND (%(user)s::text IS NULL OR user_id = %(user)s)
      AND (%(id)s::text IS NULL OR starts_with(anomaly_id, %(id)s))
    ORDER BY started_at DESC, user_id LIMIT %(limit)s"""
TIMEOUT = 30.0


@click.command("actions")
@configured("postgres", "namespace", "dir")
@click.option("--active", is_flag=True, help="Only those in force.")
@click.option("--user", metavar="ID", help="Only of this user.")
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True)
@output.option
def actions(settings: Settings, as_json: bool, **asked: Any) -> None:
    """What is done about flags of users by the policies of the alert file.

    \b
    Examples:
      streamgauge anomalies actions --active
      streamgauge anomalies actions --user u-17 --json
    """
    output.table(_rows(settings, **asked), (*COLUMNS, "ended_at", "undone_by"), as_json)


@click.command("undo")
@configured("kafka", "registry", "postgres", "namespace", "transactional", "dir")
@click.argument("id_", metavar="ID")
@click.option("--by", default=getpass.getuser, show_default="the user", help="Who undoes it.")
@click.option("--note", help="A word about it.")
@output.option
def undo(settings: Settings, id_: str, by: str, note: str | None, as_json: bool) -> None:
    """Take back what is done about the anomaly ID; the flag stays. Its beginning is enough.

    A user who was excluded from metrics and experiments counts again from the marker on that this
    puts into the log; events before it stay left out.

    Should the flag get worse (of a throttle), or the user be flagged anew, policies act again: name
    a user who is to be left alone for good in except_users of the alert file.

    \b
    Example:
      streamgauge anomalies undo 3f9a --note "our own monitoring"
    """
    found = _rows(settings, active=True, user=None, limit=100, id_=id_)
    if len({row["anomaly_id"] for row in found}) != 1:
        several = f"several actions begin with {id_}: give more of the id"
        none = f"no action in force on {id_}: `streamgauge anomalies actions --active` has the ids"
        raise CommandError(several if found else none)
    now = datetime.now(UTC)
    rows = [row | {"undone_at": now, "undone_by": by, "note": note} for row in found]
    for row in rows:
        if row["action"] == EXCLUDE:
            _mark(settings, row)
        else:
            _write(settings, Action(**{name: _plain(row[name]) for name in FIELDS}))
    for row in rows:
        text = f"{row['anomaly_id']}: {row['action']} of {row['user_id']} undone by {by}"
        output.write(row, as_json, text)


def _mark(settings: Settings, row: dict[str, Any]) -> None:
    """Into each partition of `events`: the user is in one of them."""
    undone = Undone(
        undone_at=_plain(row["undone_at"]), undone_by=row["undone_by"], note=row["note"]
    )
    control.publish(
        {"bootstrap.servers": settings.need("kafka")},
        settings.namespace,
        Codec(open_registry(settings.need("registry"))),
        undone.control(row["anomaly_id"]),
        transactional=settings.transactional,
    )


def _plain(value: Any) -> Any:
    """Times as records have them."""
    return int(value.timestamp() * 1000) if isinstance(value, datetime) else value


def _write(settings: Settings, action: Action) -> None:
    topic = qualified(settings.namespace, ACTIONS.name)
    codec = Codec(open_registry(settings.need("registry")))
    conf = {"bootstrap.servers": settings.need("kafka"), "partitioner": "murmur2_random"}
    key = f"{action.action}|{action.user_id}|{action.anomaly_id}".encode()
    failed: list[str] = []
    deadline = time.monotonic() + TIMEOUT
    try:
        producer = Producer(conf | {"enable.idempotence": True})
        producer.produce(
            topic,
            codec.encode(ACTIONS.name, action),
            key,
            on_delivery=lambda error, _: failed.append(str(error)) if error else None,
        )
        if producer.flush(max(0.1, deadline - time.monotonic())) or failed:
            raise CommandError(f"{topic} could not be written: {', '.join(failed) or 'no answer'}")
    except KafkaException as error:
        raise CommandError(f"{topic} could not be written: {error}") from error


def _rows(
    settings: Settings, *, active: bool, user: str | None, limit: int, id_: str | None = None
) -> list[dict[str, Any]]:
    asked = {"active": active, "user": user, "limit": limit, "id": id_}
    with connect(settings.need("postgres"), row_factory=dict_row) as connection:
        query = sql.SQL(LIST).format(
            schema=sql.Identifier(schema_name(settings.namespace)),
            fields=sql.SQL(", ").join(map(sql.Identifier, FIELDS)),
        )
        return connection.execute(query, asked).fetchall()
