"""`streamgauge dlq`: dead letters, listed, exported and sent again.

A letter is replayed to the partition it came from, with its own key and bytes. There the worker
counts an event id once and an event behind the watermark not at all, so replaying a letter twice
counts it once.
"""

import base64
import functools
import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import click
from confluent_kafka import Producer

from streamgauge.cli import output
from streamgauge.cli.errors import UnreachableError
from streamgauge.cli.settings import Settings, configured
from streamgauge.cli.verify.log import Log
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.registry import open_registry
from streamgauge.schemas.topics import DEAD_LETTERS, TOPICS, qualified

Letter = dict[str, Any]
F = TypeVar("F", bound=Callable[..., Any])

FLUSH_SECONDS = 60.0


@click.group()
def dlq() -> None:
    """List, export and replay dead letters: records that could not be used.

    \b
    Examples:
      streamgauge dlq list --reason undecodable
      streamgauge dlq export letters.jsonl --since 2026-01-31T12:00
      streamgauge dlq replay --reason unknown_schema --dry-run
    """


def filtered(command: F) -> F:
    """The flags that choose letters; the command gets them as `wanted`."""

    @functools.wraps(command)
    def call(
        *arguments: Any,
        reason: str | None,
        partition: int | None,
        since: Any,
        until: Any,
        **rest: Any,
    ) -> Any:
        def wanted(letter: Letter) -> bool:
            at = datetime.fromtimestamp(letter["failed_at"] / 1000, UTC)
            return (
                reason in (None, letter["reason"])
                and partition in (None, letter["partition"])
                and (since is None or at >= since.replace(tzinfo=UTC))
                and (until is None or at < until.replace(tzinfo=UTC))
            )

        return command(*arguments, wanted=wanted, **rest)

    flagged: Any = call
    for option in (
        click.option("--until", type=click.DateTime(_TIMES), help="Failed before this time, UTC."),
        click.option("--since", type=click.DateTime(_TIMES), help="Failed from then on, UTC."),
        click.option("--partition", type=int, help="Of this partition of the source only."),
        click.option("--reason", help="With this reason only (see `dlq list`)."),
    ):
        flagged = option(flagged)
    return flagged


_TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]
ADDRESSES = ("kafka", "registry", "namespace", "dir")


@dlq.command("list")
@configured(*ADDRESSES)
@filtered
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True)
@output.option
def list_(settings: Settings, wanted: Callable[[Letter], bool], limit: int, as_json: bool) -> None:
    """The newest letters, and how many there are of each reason."""
    letters = [letter for letter in read(settings) if wanted(letter)]
    rows = [
        {
            "topic": letter["topic"],
            "partition": letter["partition"],
            "offset": letter["offset"],
            "reason": letter["reason"],
            "failed_at": datetime.fromtimestamp(letter["failed_at"] / 1000, UTC).isoformat(),
            "detail": letter["detail"],
        }
        for letter in letters[-limit:]
    ]
    output.table(rows, ("topic", "partition", "offset", "reason", "failed_at", "detail"), as_json)
    reasons = Counter(letter["reason"] for letter in letters)
    click.echo(", ".join(f"{count} {reason}" for reason, count in reasons.most_common()), err=True)


@dlq.command()
@configured(*ADDRESSES)
@filtered
@click.argument("file", type=click.File("w"))
@output.option
def export(settings: Settings, wanted: Callable[[Letter], bool], file: Any, as_json: bool) -> None:
    """Write letters to a FILE (- for the terminal), a JSON object a line, bytes in base64."""
    count = 0
    for letter in read(settings):
        if wanted(letter):
            file.write(json.dumps(letter, default=lambda it: base64.b64encode(it).decode()) + "\n")
            count += 1
    if file.name != "<stdout>":
        output.write({"exported": count}, as_json, f"{count} letters in {Path(file.name)}")


@dlq.command()
@configured(*ADDRESSES)
@filtered
@click.option("--dry-run", is_flag=True, help="Say what would be sent, and send nothing.")
@output.option
def replay(
    settings: Settings, wanted: Callable[[Letter], bool], dry_run: bool, as_json: bool
) -> None:
    """Send letters again to where they came from, after the cause has been put right.

    An event is counted once however often it is replayed. What still cannot be used becomes a
    dead letter again; what is too late by now becomes a late event.
    """
    letters = [
        letter for letter in read(settings) if wanted(letter) and letter["topic"] in TOPICS
    ]  # a line of a file has no place in the log to go back to
    if not dry_run:
        conf = {"enable.idempotence": True, "linger.ms": 5}
        producer = Producer({"bootstrap.servers": settings.need("kafka"), **conf})
        for letter in letters:
            topic = qualified(settings.namespace, letter["topic"])
            producer.produce(topic, letter["payload"], letter["key"], partition=letter["partition"])
            producer.poll(0)
        if left := producer.flush(FLUSH_SECONDS):
            raise UnreachableError(f"{left} of {len(letters)} letters were not taken by Kafka")
    reasons = dict(Counter(letter["reason"] for letter in letters))
    verb = "would be sent" if dry_run else "sent"
    text = f"{len(letters)} letters {verb} {reasons or ''}".rstrip()
    output.write({"letters": len(letters), "reasons": reasons, "sent": not dry_run}, as_json, text)


def read(settings: Settings) -> Iterator[Letter]:
    """Every dead letter that the topic holds, oldest first in each partition."""
    log = Log({"bootstrap.servers": settings.need("kafka")})
    codec = Codec(open_registry(settings.need("registry")))
    topic = qualified(settings.namespace, DEAD_LETTERS.name)
    for chunk in log.read(topic, *log.bounds(topic)):
        for message in chunk:
            value = message.value()
            if value is not None:
                yield codec.decode(value).record
    log.close()
