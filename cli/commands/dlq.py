"""`streamgauge dlq`: dead letters, listed, exported and sent again.

How a letter becomes a record again is told in `cli/dead_letters.py`. The worker counts an event id
once and an event behind the watermark not at all, so replaying a letter twice counts it once.
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
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streamgauge.cli import output
from streamgauge.cli.commands.worker import load_event_modules
from streamgauge.cli.errors import UnreachableError
from streamgauge.cli.settings import Settings, configured
from streamgauge.cli.verify.log import Log
from streamgauge.producers.partitioner import PARTITIONER
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.registry import open_registry
from streamgauge.schemas.topics import DEAD_LETTERS, qualified

Letter = dict[str, Any]
F = TypeVar("F", bound=Callable[..., Any])

FLUSH_SECONDS = 60.0
ANY_PARTITION = -1
"""librdkafka's: the one that the key belongs to."""
SHOWN = 20


@click.group()
def dlq() -> None:
    """List, export and replay dead letters: records that could not be used.

    \b
    Examples:
      streamgauge dlq list --reason undecodable
      streamgauge dlq export letters.jsonl --since 2026-01-31T12:00
      streamgauge dlq replay --reason unknown_schema --dry-run
      streamgauge dlq replay --reason unknown_type --event-modules shop_events
      streamgauge dlq replay --reason unknown_type --unknown-events "shop_*=custom"
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
@configured(*ADDRESSES, "event_modules", "unknown_events")
@filtered
@click.option("--dry-run", is_flag=True, help="Say what would be sent, and send nothing.")
@output.option
def replay(
    settings: Settings, wanted: Callable[[Letter], bool], dry_run: bool, as_json: bool
) -> None:
    """Send letters again, after the cause has been put right.

    A record goes back to where it came from. What the collector, the SDK or `produce` refused is
    validated and encoded as it was the first time, with the event types of today, and goes to
    `events`. What was cut off, or still is no event, stays a dead letter; why is told.

    An event is counted once however often it is replayed. What the worker still cannot use becomes
    a dead letter again; what is too late by now becomes a late event.
    """
    from streamgauge.cli.dead_letters import Originals, Stays  # late: the collector's intake

    load_event_modules(settings)
    originals = Originals(open_registry(settings.need("registry")), settings.unknown_types)
    outbox = None if dry_run else Outbox(settings)
    sent: Counter[str] = Counter()
    stays: list[dict[str, Any]] = []
    for letter in filter(wanted, read(settings)):
        made = originals.again(letter)
        if outbox is not None and not isinstance(made, Stays):
            refused = outbox.send(made.topic, made.key, made.value, made.partition)
            made = Stays(reason="not_taken", detail=refused) if refused else made
        if isinstance(made, Stays):
            place = {name: letter[name] for name in ("topic", "partition", "offset")}
            stays.append({**place, "reason": made.reason, "detail": made.detail})
        else:
            sent[letter["reason"]] += 1
    if outbox is not None:
        outbox.close()
    _tell(dict(sent), stays, dry_run, as_json)


def _tell(
    reasons: dict[str, int], stays: list[dict[str, Any]], dry_run: bool, as_json: bool
) -> None:
    for one in stays[:SHOWN]:
        place = f"{one['topic']}/{one['partition']}/{one['offset']}"
        click.echo(f"{place} stays: {one['reason']}: {one['detail']}", err=True)
    if len(stays) > SHOWN:
        click.echo(f"… and {len(stays) - SHOWN:,} more: --json tells all", err=True)
    letters = sum(reasons.values())
    text = f"{letters} letters {'would be sent' if dry_run else 'sent'} {reasons or ''}".rstrip()
    if stays:
        why = Counter(one["reason"] for one in stays)
        text += f", {len(stays)} stay: " + ", ".join(f"{n} {code}" for code, n in why.items())
    told = {"letters": letters, "reasons": reasons, "sent": not dry_run, "stay": stays}
    output.write(told, as_json, text)


class Outbox:
    """What is sent, until Kafka has all of it."""

    def __init__(self, settings: Settings) -> None:
        conf = {"enable.idempotence": True, "linger.ms": 5, "partitioner": PARTITIONER}
        self._producer = Producer({"bootstrap.servers": settings.need("kafka"), **conf})
        self._namespace = settings.namespace
        self._refused: list[str] = []

    def send(
        self, topic: str, key: bytes | None, value: bytes | None, partition: int | None
    ) -> str | None:
        """Queue a record, or say why Kafka will never take it; without a partition, by its key."""
        place = (qualified(self._namespace, topic), value, key)
        where = ANY_PARTITION if partition is None else partition
        while True:
            try:
                self._producer.produce(*place, where, on_delivery=self._delivered)
                self._producer.poll(0)
                return None
            except BufferError:
                self._producer.poll(1)
            except KafkaException as error:
                return str(error.args[0].str())

    def close(self) -> None:
        """Wait for Kafka; raises UnreachableError."""
        left = self._producer.flush(FLUSH_SECONDS)
        if left or self._refused:
            why = f": {self._refused[0]}" if self._refused else ""
            count = left + len(self._refused)
            raise UnreachableError(f"{count} letters were not taken by Kafka{why}; replay again")

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._refused.append(str(error.str()))


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
