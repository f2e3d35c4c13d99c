"""Sessions on real servers, through kill -9 of both workers and of the sink.

simulate ──> worker 0, worker 1 (kill -9) ──> sessions, device-sessions ──> Postgres (kill -9)
"""

from __future__ import annotations

import os
from pathlib import Path

import psycopg
import pytest

from streamgauge.cli.settings import Settings
from streamgauge.cli.stack.stack import Stack
from streamgauge.cli.verify import verify
from streamgauge.producers import RecordProducer
from streamgauge.producers.simulator import Rates, Simulation, simulate
from tests.pipeline.product import NO_REDIS, kill, proof_of

pytestmark = [pytest.mark.kafka, pytest.mark.postgres, pytest.mark.timeout(600)]

EVENTS = int(os.environ.get("KILL_EVENTS", "4000"))


def test_sessions_survive_kills_of_workers_and_sink(
    kafka: str, postgres: str, namespace: str, registry_url: str, tmp_path: Path
) -> None:
    settings = Settings(
        kafka=kafka,
        postgres=postgres,
        redis=NO_REDIS,
        registry=registry_url,
        namespace=namespace,
        dir=tmp_path,
        workers=2,
    )
    with Stack(settings, tmp_path / "stack", sinks=("postgres",)) as stack:
        client = RecordProducer(kafka=kafka, registry=registry_url, namespace=namespace)
        rates = Rates(duplicates=0.01, late=0.01, out_of_order=0.1)
        for seed in range(4):  # six hours each, so that sessions end on the way
            simulate(client, Simulation(events=EVENTS // 4, seed=seed, rates=rates))
            kill(stack.children[seed % len(stack.children)])
            stack.check()
        report = verify(proof_of(settings))
    assert report.ok, report.text()
    assert report.keys["device-sessions"] >= report.keys["sessions"] > 0
    with psycopg.connect(postgres) as connection:
        schema = namespace.replace("-", "_")
        (day,) = connection.execute(
            f"SELECT sum(sessions), sum(open_sessions), max(mean_minutes), max(bounce_rate)"
            f" FROM {schema}.sessions_daily"
        ).fetchall()
        (back,) = connection.execute(
            f"SELECT sum(users), min(return_frequency) FROM {schema}.session_returns_daily"
        ).fetchall()
    assert day[0] == report.keys["sessions"] > day[1] > 0
    assert day[2] > 0 and 0 <= day[3] <= 1
    assert back[0] > 0 and back[1] >= 1
