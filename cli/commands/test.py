"""`streamgauge test`: one probe event, traced to the end."""

import json
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import click
import psycopg
from confluent_kafka import Consumer, TopicPartition
from psycopg import sql
from redis import Redis

from streamgauge.cli import output
from streamgauge.cli.errors import FAILED, CommandError
from streamgauge.cli.settings import Settings, configured, schema_name
from streamgauge.cli.stack.lag import Broker
from streamgauge.producers import Client, Outcome
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.envelope import uuid7
from streamgauge.schemas.registry import open_registry
from streamgauge.schemas.topics import EVENTS, METRICS, qualified

PAUSE = 0.005
USER = "streamgauge-probe"
METRIC = "page_views"
WHY = {
    "producer": "Kafka did not acknowledge it",
    "worker": "no worker has committed it: does one run? (streamgauge worker)",
    "topic": "no row of it in the topic metrics: is it late, or rejected? See "
    "`streamgauge topics tail late-events` and `streamgauge dlq list`",
    "postgres": "not in Postgres: does its sink run? (streamgauge sink postgres)",
    "redis": "not in Redis: does its sink run? (streamgauge sink redis)",
}


@click.command()
@configured("kafka", "registry", "postgres", "redis", "namespace", "dir")
@click.option("--timeout", type=float, default=30.0, show_default=True, metavar="SECONDS")
@output.option
def test(settings: Settings, timeout: float, as_json: bool) -> None:
    """Trace one probe event from producer to worker, topic, Postgres and Redis.

    Prints when it was there, in ms since it was sent; exits 1 and names the place it did not
    reach. The probe is a page view of a page of its own, and stays in the totals.

    \b
    Examples:
      streamgauge test
      streamgauge test --json
    """
    with _Probe(settings) as probe:
        times = probe.trace(timeout)
    missing = next((hop for hop in WHY if hop not in times), None)
    told = {"ok": missing is None, "page": probe.page, "hops_ms": times, "missing": missing}
    lines = [f"{hop:10}{ms:8.1f} ms" for hop, ms in times.items()]
    output.write(told, as_json, "\n".join(lines))
    if missing is not None:
        click.echo(f"after {timeout:g} s: {WHY[missing]}", err=True)
        sys.exit(FAILED)


class _Probe:
    """One event on its way; each hop is a question that is asked until the answer is yes."""

    def __init__(self, settings: Settings) -> None:
        self.page = f"/streamgauge-probe/{uuid7()}"
        self._dimensions = json.dumps({"page": self.page}, separators=(",", ":"))
        self._namespace = settings.namespace
        self._kafka = settings.need("kafka")
        registry = open_registry(settings.need("registry"))
        self._codec = Codec(registry)
        self._broker = Broker(self._kafka)
        self._client = Client(
            self._kafka, registry, self._namespace, on_outcome=self._acknowledge, batch_events=1
        )
        self._events = qualified(self._namespace, EVENTS.name)
        self._metrics = self._at_end(qualified(self._namespace, METRICS.name))
        self._postgres = psycopg.connect(settings.need("postgres"), autocommit=True)
        self._redis: Redis = Redis.from_url(settings.need("redis"), decode_responses=True)
        self._at: tuple[int, int] | None = None
        self._row: tuple[int, Mapping[str, Any]] | None = None

    def __enter__(self) -> "_Probe":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._metrics.close()
        self._postgres.close()
        self._redis.close()

    def trace(self, timeout: float) -> dict[str, float]:
        """Send the probe; milliseconds until each hop had it, those it reached."""
        hops: dict[str, Callable[[], bool]] = {
            "producer": lambda: self._at is not None,
            "worker": self._processed,
            "topic": self._published,
            "postgres": self._in_postgres,
            "redis": self._in_redis,
        }
        times: dict[str, float] = {}
        began = time.monotonic()
        self._client.track("page_view", user_id=USER, page_url=self.page)
        while len(times) < len(hops) and time.monotonic() - began < timeout:
            for hop, reached in hops.items():
                if hop not in times and reached():
                    times[hop] = round((time.monotonic() - began) * 1000, 1)
            time.sleep(PAUSE)
        return {hop: times[hop] for hop in hops if hop in times}

    def _acknowledge(self, outcome: Outcome) -> None:
        if outcome.partition is not None and outcome.offset is not None:
            self._at = outcome.partition, outcome.offset

    def _at_end(self, topic: str) -> Consumer:
        ends = self._broker.ends([topic])
        if not ends:
            raise CommandError(
                f"there is no topic {topic}: start a worker, or `streamgauge topics create`"
            )
        consumer = Consumer(
            {
                "bootstrap.servers": self._kafka,
                "group.id": f"streamgauge-probe-{uuid7()}",
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
            }
        )
        consumer.assign([TopicPartition(*at, end) for at, end in ends.items()])
        return consumer

    def _processed(self) -> bool:
        if self._at is None:
            return False
        return any(
            (position.topic, position.partition) == (self._events, self._at[0])
            and (position.committed or 0) > self._at[1]
            for position in self._broker.positions(self._namespace, "worker")
        )

    def _published(self) -> bool:
        for message in self._metrics.consume(1000, 0.001):
            if message.error() is None and (value := message.value()) is not None:
                row = self._codec.decode(value).record
                if self.page in row["dimensions"] and row["window_size"] == "1m":
                    self._row = message.partition() or 0, row
        return self._row is not None

    def _in_postgres(self) -> bool:
        query = sql.SQL(
            "SELECT 1 FROM {}.metrics WHERE metric = %s AND window_size = '1m'"
            " AND window_start > now() - interval '1 day' AND dimensions = %s::jsonb"
        ).format(sql.Identifier(schema_name(self._namespace)))
        try:
            return bool(self._postgres.execute(query, [METRIC, self._dimensions]).fetchone())
        except psycopg.errors.UndefinedTable:  # its sink has never run
            return False

    def _in_redis(self) -> bool:
        if self._row is None:
            return False
        partition, row = self._row
        prefix = f"{self._namespace or 'sg'}:{{metrics-{partition}}}"
        key = f"{prefix}:{METRIC}:1m:{row['window_start']}"
        return bool(self._redis.hexists(key, self._dimensions))
