"""Anomalies on real Kafka: both stages killed again and again, nothing said twice, all proved.

simulate ──> worker (kill -9) ──> anomaly-points ──> anomalies ──> Postgres
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from confluent_kafka import KafkaException

from streamgauge.cli.settings import Settings
from streamgauge.cli.stack.stack import Stack
from streamgauge.cli.verify import verify
from streamgauge.cli.verify.log import Log
from streamgauge.producers import RecordProducer
from streamgauge.producers.simulator import Rates, Simulation, simulate
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.registry import open_registry
from tests.pipeline.product import NO_REDIS, kill, proof_of, worker_of, yesterday

EVENTS = 12_000
KILLS, ROWS = 3, 120


def test_flags_survive_kills_and_are_not_repeated(
    kafka: str, postgres: str, namespace: str, registry_url: str, tmp_path: Path
) -> None:
    settings = Settings(
        kafka=kafka,
        postgres=postgres,
        redis=NO_REDIS,
        registry=registry_url,
        namespace=namespace,
        dir=tmp_path,
    )
    with Stack(settings, tmp_path / "stack", sinks=("postgres",)) as stack:
        client = RecordProducer(kafka=kafka, registry=registry_url, namespace=namespace)
        log, points = Log({"bootstrap.servers": kafka}), f"{namespace}.anomaly-points"
        rates = Rates(duplicates=0.01, late=0.01, broken=0.001)
        # Three hours of traffic, with what the simulator's world holds: errors, slow answers.
        left = list(range(1, KILLS + 1))

        def kill_when_due(_: object = None) -> None:
            """Whenever so many rows more have been written."""
            rows = 0
            with suppress(KafkaException):  # topics that have just been made
                rows = sum(log.bounds(points)[1].values()) if log.exists(points) else 0
            if left and rows > left[0] * ROWS:
                left.pop(0)
                kill(worker_of(stack))
            stack.check()

        simulation = Simulation(
            events=EVENTS,
            seed=5,
            rates=rates,
            start_ms=yesterday(17),
            span_ms=10_800_000,
            rate=EVENTS / 8,
        )
        simulate(client, simulation, progress=kill_when_due)
        deadline = time.monotonic() + 120
        while left and time.monotonic() < deadline:
            kill_when_due()
            time.sleep(0.02)
        assert not left
        report = verify(proof_of(settings))
        assert report.ok, report.text()
        topic = f"{namespace}.anomalies"
        codec = Codec(open_registry(registry_url))
        words = [
            codec.decode(message.value() or b"").record
            for chunk in log.read(topic, *log.bounds(topic))
            for message in chunk
        ]
        log.close()
    assert report.keys["anomaly-points"] > 1_000
    assert not [
        w for w, n in Counter((w["anomaly_id"], w["version"]) for w in words).items() if n > 1
    ]
    levels = {(w["detector"], w["severity"], w["is_final"]) for w in words}
    assert {("threshold:error_rate", "red", final) for final in (False, True)} <= levels
