"""`streamgauge topics`: the topics of a namespace, and what is in them."""

import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

import click
from confluent_kafka import Message

from streamgauge.cli import output
from streamgauge.cli.errors import CommandError
from streamgauge.cli.settings import Settings, configured
from streamgauge.cli.stack.lag import Broker
from streamgauge.cli.verify.log import Log
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.errors import UndecodableRecord
from streamgauge.schemas.registry import open_registry
from streamgauge.schemas.topics import TOPICS, create_topics, qualified

FOLLOW_PAUSE = 0.2

NAME = click.argument("name", type=click.Choice(list(TOPICS)))


@click.group()
def topics() -> None:
    """List, create, tail and purge the topics of a namespace.

    \b
    Examples:
      streamgauge topics list
      streamgauge topics create --replication 3
      streamgauge topics tail metrics --last 5 --follow
      streamgauge topics purge dead-letters --yes
    """


@topics.command("list")
@configured("kafka", "namespace", "dir")
@output.option
def list_(settings: Settings, as_json: bool) -> None:
    """Every topic with its key, policy and number of records."""
    broker = Broker(settings.need("kafka"))
    names = {qualified(settings.namespace, name): topic for name, topic in TOPICS.items()}
    first, ends = broker.ends(names, earliest=True), broker.ends(names)
    rows: list[dict[str, Any]] = []
    for name, topic in names.items():
        held = [ends[at] - first[at] for at in ends if at[0] == name]
        rows.append(
            {
                "topic": name,
                "partitions": len(held),
                "offsets": sum(held),
                "cleanup": topic.cleanup,
                "key": topic.key,
                "description": topic.description,
            }
        )
    output.table(rows, tuple(rows[0]), as_json)


@topics.command()
@configured("kafka", "namespace", "dir")
@click.option("--partitions", type=click.IntRange(1), help="Of each topic (default: 4).")
@click.option("--replication", type=click.IntRange(1), default=1, show_default=True)
@output.option
def create(settings: Settings, partitions: int | None, replication: int, as_json: bool) -> None:
    """Create the topics that are missing."""
    conf = {"bootstrap.servers": settings.need("kafka")}
    created = create_topics(conf, settings.namespace, partitions, replication)
    rows = ({"topic": name, "partitions": count} for name, count in created.items())
    output.table(rows, ("topic", "partitions"), as_json)


@topics.command()
@configured("kafka", "registry", "namespace", "dir")
@NAME
@click.option("--last", type=click.IntRange(0), default=10, show_default=True, metavar="N")
@click.option("--partition", type=int, help="This partition only.")
@click.option("--follow", "-f", is_flag=True, help="Go on with what comes, until Ctrl-C.")
def tail(settings: Settings, name: str, last: int, partition: int | None, follow: bool) -> None:
    """Print the last N records of each partition, decoded, one JSON object a line."""
    log = Log({"bootstrap.servers": settings.need("kafka")})
    codec = Codec(open_registry(settings.need("registry")))
    topic = qualified(settings.namespace, name)
    starts, ends = log.bounds(topic)
    begin = {at: max(starts[at], end - last) for at, end in ends.items()}
    while True:
        wanted = {at: end for at, end in ends.items() if partition in (None, at)}
        for chunk in log.read(topic, begin, wanted):
            for message in chunk:
                click.echo(json.dumps(shown(message, codec), default=_text))
        if not follow:
            break
        time.sleep(FOLLOW_PAUSE)
        begin, ends = ends, log.bounds(topic)[1]
    log.close()


@topics.command()
@configured("kafka", "namespace", "dir")
@NAME
@click.option("--yes", is_flag=True, help="Do not ask.")
@output.option
def purge(settings: Settings, name: str, yes: bool, as_json: bool) -> None:
    """Delete every record that a topic holds now; the topic stays."""
    broker = Broker(settings.need("kafka"))
    topic = qualified(settings.namespace, name)
    ends = broker.ends([topic])
    if not ends:
        raise CommandError(f"there is no topic {topic}: is --namespace right?")
    if TOPICS[name].cleanup == "compact":
        raise CommandError(f"{topic} is compacted: the broker deletes nothing from it")
    if not yes:
        click.confirm(f"Delete the records of {topic}?", abort=True)
    broker.delete_before(ends)
    output.write({"topic": topic, "purged": True}, as_json, f"{topic} is empty")


def shown(message: Message, codec: Codec) -> dict[str, Any]:
    """A record as people read it; one that cannot be decoded says why."""
    found: dict[str, Any] = {
        "partition": message.partition(),
        "offset": message.offset(),
        "time": message.timestamp()[1],
        "key": _text(message.key()),
    }
    value = message.value()
    if value is None:
        return {**found, "tombstone": True}
    try:
        decoded = codec.decode(value)
    except UndecodableRecord as error:
        return {**found, "undecodable": str(error), "value": value.hex()}
    return {**found, "record": decoded.name, "value": dict(_values(decoded.record))}


def _values(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The fields that say something."""
    return ((name, value) for name, value in record.items() if value is not None)


def _text(value: Any) -> str | None:
    """Bytes as text where they are text, else in hex."""
    if value is None:
        return None
    try:
        return bytes(value).decode()
    except UnicodeDecodeError:
        return bytes(value).hex()
