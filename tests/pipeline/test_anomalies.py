"""Anomalies on real Kafka: both stages killed again and again, nothing said twice, all proved.

simulate ──> worker (kill -9) ──> anomaly-points ──> anomalies ──> Postgres
a user   ──> excluded by a policy, until somebody undoes it
"""

from __future__ import annotations

import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from click.testing import CliRunner
from confluent_kafka import KafkaException

from streamgauge.cli import main
from streamgauge.cli.settings import Settings
from streamgauge.cli.stack.stack import Stack
from streamgauge.cli.verify import verify
from streamgauge.cli.verify.log import Log
from streamgauge.producers import RecordProducer
from streamgauge.producers.simulator import Rates, Simulation, simulate
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.events import Request
from streamgauge.schemas.registry import open_registry
from tests.pipeline.product import NO_REDIS, kill, proof_of, worker_of, yesterday

EVENTS = 12_000
KILLS, ROWS = 3, 120
MINUTE = 60_000
POLICY = "policies: [{detector: impossible, exclude: true}]"
ODD = "of-another-world"


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
        alerts=tmp_path / "alerts.yaml",
    )
    (tmp_path / "alerts.yaml").write_text(POLICY)
    with Stack(settings, tmp_path / "stack", sinks=("postgres",)) as stack:
        client = RecordProducer(kafka=kafka, registry=registry_url, namespace=namespace)
        log, points = Log({"bootstrap.servers": kafka}), f"{namespace}.anomaly-points"
        rates = Rates(duplicates=0.01, late=0.01, broken=0.001)
        # One user's durations cannot be: known from the third minute on, until it is undone.
        requests(client, range(30), duration_ms=1e9)
        undo(settings, stack)
        requests(client, range(32, 34), duration_ms=5.0)
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
        assert report.excluded >= 2 * 28
        topic = f"{namespace}.anomalies"
        codec = Codec(open_registry(registry_url))
        words = [
            codec.decode(message.value() or b"").record
            for chunk in log.read(topic, *log.bounds(topic))
            for message in chunk
        ]
        rows = [codec.decode(v).record for v in log.last_values(f"{namespace}.actions").values()]
        log.close()
    [odd] = [row for row in rows if row["user_id"] == ODD]
    assert (odd["action"], odd["undone_by"]) == ("exclude", "ada")
    assert odd["excluded_from"] == yesterday(16) + 2 * MINUTE
    assert odd["excluded_until"] < yesterday(16) + 32 * MINUTE, "at the marker: what comes counts"
    assert report.keys["anomaly-points"] > 1_000
    assert not [
        w for w, n in Counter((w["anomaly_id"], w["version"]) for w in words).items() if n > 1
    ]
    levels = {(w["detector"], w["severity"], w["is_final"]) for w in words}
    assert {("threshold:error_rate", "red", final) for final in (False, True)} <= levels


def requests(client: RecordProducer, minutes: range, duration_ms: float) -> None:
    """Two in each of these minutes of the hour before the simulated traffic."""
    for minute in minutes:
        for half in (0, 30_000):
            client.send_event(
                Request(
                    event_id=f"{ODD} {minute} {half}",
                    user_id=ODD,
                    timestamp=yesterday(16) + minute * MINUTE + half,
                    duration_ms=duration_ms,
                )
            )
    client.flush()


def undo(settings: Settings, stack: Stack) -> None:
    """Once the table has it."""
    deadline = time.monotonic() + 120
    where = ["--namespace", settings.namespace, "--kafka", settings.need("kafka")]
    where += ["--postgres", settings.need("postgres"), "--registry", settings.need("registry")]
    while time.monotonic() < deadline:
        stack.check()
        result = CliRunner().invoke(main, ["anomalies", "undo", "", "--by", "ada", *where])
        if result.exit_code == 0:
            return
        time.sleep(0.2)
    raise AssertionError(result.output)
