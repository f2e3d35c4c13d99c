"""The worker: the app that computes everything from `events`, and its entry point.

Upstream: the topic `events`. Downstream: `metric-partials`, `metrics`, `late-events` and
`dead-letters`, which the sinks read. This file only puts the parts together.
"""

from __future__ import annotations

import os

os.environ.setdefault("POLARS_MAX_THREADS", "1")  # saves a third on small frames
os.environ.setdefault("RUST_BACKTRACE", "0")  # polars panics at a truncated record; it is caught

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mode

from streamgauge.schemas import alerts, segments, work
from streamgauge.schemas.codec import Codec, header_id
from streamgauge.schemas.columnar import Decoder
from streamgauge.schemas.consent import ConsentDefault
from streamgauge.schemas.errors import UndecodableRecord
from streamgauge.schemas.loading import load_event_module
from streamgauge.schemas.metrics import builtin, load_definitions
from streamgauge.schemas.registry import open_registry
from streamgauge.schemas.reject import Reject, dead_letter
from streamgauge.schemas.topics import create_topics, qualified
from streamgauge.schemas.watched import watched
from streamgauge.streams.anomalies.points import PointsBranch
from streamgauge.streams.anomalies.tasks import AnomalyWatch
from streamgauge.streams.anomalies.user_branch import UserWatch
from streamgauge.streams.engine import App, Output, memory
from streamgauge.streams.engine.health import add_pages, reporting
from streamgauge.streams.engine.standby import Standby
from streamgauge.streams.engine.task import Record
from streamgauge.streams.experiments.branch import ExposureBranch
from streamgauge.streams.experiments.tasks import ExperimentResults
from streamgauge.streams.metrics.tasks import MetricMerge, MetricSource
from streamgauge.streams.users import users

MAX_PAYLOAD = 900_000  # bytes; a record of ours is at most 1 MB


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """Everything a worker is told. Times with `_ms` are milliseconds, others seconds."""

    kafka: str
    registry: str
    namespace: str = ""
    worker_id: str = "0"
    commit_interval: float = 0.1
    lateness_ms: int = 3_600_000
    consent_default: ConsentDefault = "granted"
    definitions: Path | None = None
    alerts: Path | None = None
    segments: Path | None = None
    event_modules: tuple[str, ...] = ()
    http_port: int | None = None
    events_topic: str | None = None
    until_end: bool = False
    batch_size: int = 20_000
    transactional: bool = True
    tick_after: float = 5.0
    agents: tuple[str, ...] = ()
    checkpoints: Path | None = None
    checkpoint_interval: float = 30.0
    status: Path | None = None


class AvroDeadLetters:
    """Dead letters as the records that sinks and the CLI know."""

    def __init__(self, codec: Codec, topic_of: Any) -> None:
        self._codec, self._topic_of = codec, topic_of

    def rejected(self, rejects: Sequence[Reject]) -> Output:
        rejects = [_fitting(reject) for reject in rejects]
        return Output(
            topic="dead-letters",
            keys=[f"{r.topic}/{r.partition}/{r.offset}".encode() for r in rejects],
            values=[self._codec.encode("dead-letters", dead_letter(r)) for r in rejects],
        )

    def failed(self, record: Record, error: BaseException | None) -> Output:
        try:
            schema_id = header_id(record.value() or b"")
        except UndecodableRecord:
            schema_id = None
        return self.rejected(
            [
                Reject(
                    topic=self._topic_of(record.topic()),
                    partition=record.partition(),
                    offset=record.offset(),
                    reason="agent_failed",
                    detail=repr(error),
                    schema_id=schema_id,
                    key=record.key(),
                    payload=record.value(),
                    append_time=record.timestamp()[1],
                )
            ]
        )


def _fitting(reject: Reject) -> Reject:
    """With as much of the payload as a record can hold beside the rest."""
    size = len(reject.payload or b"")
    if size <= MAX_PAYLOAD:
        return reject
    detail = f"{reject.detail} (payload cut to {MAX_PAYLOAD} of {size} bytes)"
    return replace(reject, detail=detail, payload=(reject.payload or b"")[:MAX_PAYLOAD])


def build(config: WorkerConfig) -> App:
    """The app with its tasks attached; raises the schemas' errors for wrong definitions."""
    agents = work.chosen(config.agents)
    for module in config.event_modules:
        load_event_module(module)
    definitions = load_definitions(config.definitions) if config.definitions else builtin()
    levels = alerts.chosen(config.alerts, definitions)
    policies = alerts.load_policies(config.alerts, definitions)
    rules = segments.load_rules(config.segments) if config.segments else segments.builtin()
    registry = open_registry(config.registry)
    kafka = {"bootstrap.servers": config.kafka}
    counts = create_topics(kafka, config.namespace, embedded=not config.transactional)
    partitions = counts[qualified(config.namespace, "metric-partials")]
    app: App = App(
        qualified(config.namespace, work.group(agents)),
        broker=f"kafka://{config.kafka.split(',')[0]}",
        kafka=kafka,
        worker_id=config.worker_id,
        namespace=config.namespace,
        exactly_once=config.transactional,
        commit_interval=config.commit_interval,
        batch_size=config.batch_size,
        until_end=config.until_end,
        decoder=lambda topic, columns: Decoder(registry, topic, columns),
        dead_letters=AvroDeadLetters(Codec(registry), lambda name: app.engine.unqualified(name)),
        topics={"events": config.events_topic} if config.events_topic else None,
        checkpoints=config.checkpoints,
        checkpoint_interval=config.checkpoint_interval,
        topic_allow_declare=False,
        web_enabled=config.http_port is not None,
        web_port=config.http_port or 6066,
        web_bind="0.0.0.0",  # as the sinks: whoever scrapes is elsewhere
    )
    tasks = {
        "source": lambda: MetricSource(
            definitions,
            registry,
            partitions=partitions,
            lateness_ms=config.lateness_ms,
            consent_default=config.consent_default,
            tick_after_ms=int(config.tick_after * 1000),
            branches=(
                UserWatch(  # first, for it says whom the others leave out
                    registry,
                    policies=policies,
                    lateness_ms=config.lateness_ms,
                    consent_default=config.consent_default,
                ),
                PointsBranch(
                    watched(definitions, levels),
                    registry,
                    partitions=partitions,
                    lateness_ms=config.lateness_ms,
                    consent_default=config.consent_default,
                ),
                ExposureBranch(
                    registry,
                    partitions=partitions,
                    lateness_ms=config.lateness_ms,
                    consent_default=config.consent_default,
                ),
                users(
                    registry,
                    lateness_ms=config.lateness_ms,
                    consent_default=config.consent_default,
                    rules=rules,
                ),
            ),
        ),
        "merge": lambda: MetricMerge(
            definitions,
            registry,
            source_partitions=partitions,
            lateness_ms=config.lateness_ms,
        ),
        "anomalies": lambda: AnomalyWatch(
            definitions, levels, registry, source_partitions=partitions
        ),
        "results": lambda: ExperimentResults(
            registry,
            partitions=partitions,
            lateness_ms=config.lateness_ms,
            may_stop=config.events_topic is None,
        ),
    }
    for name in agents:
        app.attach(tasks[name](), name=name)
    add_pages(app)
    return app


def run(config: WorkerConfig) -> int:
    """Run until told to stop (SIGTERM, SIGINT) or, with `until_end`, until all is done."""
    memory.bound()
    app = build(config)
    worker = app.Worker(loglevel=logging.INFO)
    name = f"{app.conf.id}-{config.worker_id}"
    with reporting(config.status, name, lambda: app.status):
        try:
            worker.execute_from_commandline()
        except SystemExit as exit:
            return int(exit.code or 0)
        except mode.exceptions.MaxRestartsExceeded:
            return 1
        return 0


def stand_by(config: WorkerConfig, stop: threading.Event) -> None:
    """Keep the checkpoints of these workers up to date, outside their group, until told to stop."""
    app = build(config)
    standby = Standby(app.engine, app.decoder)
    with reporting(config.status, f"{app.conf.id}-standby", standby.status):
        standby.run(stop)
