"""Runs one sink: its settings, its process.

Upstream: the CLI's `sink` command. Downstream: a session, begun anew whenever a fence ended the
last one. Webhooks are several sinks in one process, each with a thread and a group of its own, so
that one which is away delays no other; where one cannot go on, all end.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from streamgauge.schemas.errors import StreamgaugeError
from streamgauge.schemas.registry import open_registry
from streamgauge.schemas.topics import qualified
from streamgauge.sinks.batches import Batches
from streamgauge.sinks.errors import Fatal, Fenced
from streamgauge.sinks.health import HealthServer, Progress, Together
from streamgauge.sinks.logs import Logs
from streamgauge.sinks.outage import Outage
from streamgauge.sinks.session import Session
from streamgauge.sinks.sink import Sink
from streamgauge.sinks.telemetry import FENCED

log = logging.getLogger(__name__)

Kind = Literal["postgres", "redis", "archive", "webhook"]

INTERVAL: Mapping[Kind, float] = {"postgres": 0.25, "redis": 0.05, "archive": 5.0, "webhook": 0.25}
"""Seconds between writes: counters shall show a worker's commit at once, rows of tables soon, and
files shall not be tiny."""

WEBHOOK_ROWS = 8
"""Most requests between two turns of the loop, each of which may take seconds."""


@dataclass(frozen=True, kw_only=True)
class SinkConfig:
    """What a sink is to do. `target` is a DSN, a URL, a folder or (webhook) the alert file."""

    kind: Kind
    kafka: Mapping[str, Any]
    """librdkafka's settings, bootstrap.servers among them."""
    registry: str
    target: str
    namespace: str = ""
    registry_options: Mapping[str, Any] = field(default_factory=dict)
    interval: float | None = None
    """Latest value per key and interval, in seconds; None: what suits the kind."""
    batch_rows: int = 20_000
    batch_bytes: int = 32 << 20
    """A write follows at once when this much is buffered."""
    instance: str = field(default_factory=lambda: f"{socket.gethostname()}-{os.getpid()}")
    http_port: int | None = None
    """Serves /live, /ready and /metrics; None: not at all."""
    retention_days: int | None = None
    """Postgres: drop partitions older than this, as the log's time goes. None: keep all."""
    consent_default: Literal["granted", "denied"] = "granted"
    """Postgres: what an event without a word on analytics means."""
    migrate: bool = True
    """Postgres: bring the tables up to date at the start."""
    refresh_every: float = 0.0
    """Postgres: seconds between refreshes of the materialised views; 0: never."""
    definitions: str | None = None
    """Webhook: file of the metrics that the alert file is about; None: the built-in ones."""
    part: str = ""
    """Webhook: the name of the one; '' where all of the file are meant."""

    @property
    def label(self) -> str:
        """As logs and metrics name it."""
        return f"{self.kind}:{self.part}" if self.part else self.kind


def schema_name(namespace: str) -> str:
    """The Postgres schema of a namespace."""
    return namespace.replace("-", "_") or "streamgauge"


def group(config: SinkConfig) -> str:
    """The consumer group."""
    part = f"-{config.part}" if config.part else ""
    return qualified(config.namespace, f"streamgauge-sink-{config.kind}{part}")


def make_sink(config: SinkConfig) -> Sink:
    """The sink that the settings name."""
    if config.kind == "postgres":
        from streamgauge.sinks.postgres.sink import PostgresSink

        return PostgresSink(
            config.target,
            schema_name(config.namespace),
            owner=config.instance,
            retention_days=config.retention_days,
            consent_default=config.consent_default,
            migrate=config.migrate,
        )
    if config.kind == "redis":
        from streamgauge.sinks.redis.sink import RedisSink

        return RedisSink(config.target, config.namespace, owner=config.instance)
    if config.kind == "archive":
        from streamgauge.sinks.archive.sink import ArchiveSink

        return ArchiveSink(Path(config.target), config.namespace)
    if config.kind == "webhook":
        from streamgauge.sinks.webhook import setup

        return setup.sink(
            config.part,
            setup.webhooks(config.target, config.definitions),
            kafka=config.kafka,
            group=group(config),
            namespace=config.namespace,
            registry=open_registry(config.registry, dict(config.registry_options)),
        )
    raise Fatal(f"no sink {config.kind!r}: it is postgres, redis, archive or webhook")


def parts(config: SinkConfig) -> list[SinkConfig]:
    """What runs in one process: one sink, or each webhook of a file."""
    if config.kind != "webhook" or config.part:
        return [config]
    from streamgauge.sinks.webhook import setup

    found = setup.webhooks(config.target, config.definitions).webhooks
    rows = min(config.batch_rows, WEBHOOK_ROWS)
    return [replace(config, part=webhook.name, batch_rows=rows) for webhook in found]


def consumer_conf(config: SinkConfig) -> dict[str, Any]:
    """librdkafka's settings: theirs may tune ours, but not what correctness rests on."""
    return {
        "fetch.queue.backoff.ms": 5,  # the default of a second stalls a fast reader
        "fetch.min.bytes": 1 << 18,  # a fetch each 20 ms, not one for each record
        "fetch.wait.max.ms": 20,
        "queued.max.messages.kbytes": 65536,
        "session.timeout.ms": 10_000,  # partitions of a killed sink move this soon
        "topic.metadata.refresh.interval.ms": 10_000,  # topics may be made after the sink starts
        "client.id": config.instance,
        "logger": log,
        **config.kafka,
        "group.id": group(config),
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.partition.eof": True,  # how the session learns of markers behind the records
        "auto.offset.reset": "earliest",
        "partition.assignment.strategy": "range",
    }


def run(config: SinkConfig, stop: threading.Event | None = None) -> int:
    """Run until `stop` is set, or SIGTERM or SIGINT where none is given; returns the exit code."""
    if stop is None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
    health: HealthServer | None = None
    try:
        configs = parts(config)
        loops = [Progress(config.instance) for _ in configs]
        if config.http_port is not None:
            health = HealthServer(Together(config.instance, loops), config.http_port)
        if len(configs) == 1:
            return _serve(configs[0], loops[0], stop)
        with ThreadPoolExecutor(len(configs), "sink") as pool:
            codes = pool.map(_serve, configs, loops, [stop] * len(configs))
        return max(codes)
    except StreamgaugeError as error:
        log.critical("%s sink stops: %s", config.kind, error)
        return 1
    finally:
        if health is not None:
            health.close()


def _serve(config: SinkConfig, progress: Progress, stop: threading.Event) -> int:
    """One sink until the end; where it cannot go on, it ends the others too."""
    sink: Sink | None = None
    schedule = ExitStack()
    try:
        sink = make_sink(config)
        schedule.enter_context(_refreshing(config))
        _sessions(config, sink, progress, stop)
    except StreamgaugeError as error:
        log.critical("%s sink stops: %s", config.label, error)
        return 1
    finally:
        stop.set()
        schedule.close()
        if sink is not None:
            sink.close()
    return 0


def _refreshing(config: SinkConfig) -> AbstractContextManager[object]:
    """What refreshes the views of Postgres meanwhile."""
    if config.kind != "postgres" or config.refresh_every <= 0:
        return nullcontext()
    from streamgauge.sinks.postgres.refreshing import Refreshing

    schema = schema_name(config.namespace)
    return closing(Refreshing(config.target, schema, config.refresh_every))


def _sessions(config: SinkConfig, sink: Sink, progress: Progress, stop: threading.Event) -> None:
    batches = Batches(
        config.label, sink, open_registry(config.registry, dict(config.registry_options))
    )
    logs = Logs(config.kafka)
    outage = Outage(config.label)
    while not stop.is_set():
        session = Session(
            kind=config.label,
            sink=sink,
            batches=batches,
            logs=logs,
            conf=consumer_conf(config),
            namespace=config.namespace,
            interval=INTERVAL[config.kind] if config.interval is None else config.interval,
            rows=config.batch_rows,
            bytes=config.batch_bytes,
            progress=progress,
            outage=outage,
            every=config.kind == "webhook",
        )
        try:
            session.run(stop.is_set)
        except Fenced as error:
            FENCED.labels(config.label).inc()
            log.warning("%s sink joins its group anew: %s", config.label, error)
            stop.wait(1.0)
