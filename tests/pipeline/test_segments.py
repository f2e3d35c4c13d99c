"""Segments on real servers: rules change while people move, and the worker is killed on the way.

simulate ──> worker (kill -9) ──> user-segments ──> Postgres, Redis
segments apply ──┘ (in force at its marker, told once)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg

from streamgauge.cli.settings import Settings
from streamgauge.cli.stack.stack import Stack
from streamgauge.cli.verify import verify
from streamgauge.producers import RecordProducer
from streamgauge.producers.simulator import Rates, Simulation, simulate
from tests.pipeline.product import kill, proof_of, worker_of

EVENTS = 3_000
RULES = """
segments:
  - name: keen
    description: Has done something, as nearly everybody.
    enter: events >= 3
    leave: hours_since_last >= 3
"""


def streamgauge(settings: Settings, *arguments: str, exit_code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "streamgauge.cli", "segments", *arguments],
        env={**os.environ, **settings.environment()},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == exit_code, done.stderr
    return done.stdout or done.stderr


def test_rules_change_live_and_memberships_survive_kills(
    kafka: str, postgres: str, redis_url: str, namespace: str, registry_url: str, tmp_path: Path
) -> None:
    settings = Settings(
        kafka=kafka,
        postgres=postgres,
        redis=redis_url,
        registry=registry_url,
        namespace=namespace,
        dir=tmp_path,
    )
    file = tmp_path / "rules.yaml"
    with Stack(settings, tmp_path / "stack", sinks=("postgres", "redis")) as stack:
        client = RecordProducer(kafka=kafka, registry=registry_url, namespace=namespace)
        rates = Rates(duplicates=0.01, late=0.01, broken=0.001)
        for seed in (1, 2):
            simulate(client, Simulation(events=EVENTS // 3, seed=seed, rates=rates))
            kill(worker_of(stack))
            stack.check()
        file.write_text(RULES.replace("events >= 3", "evnts >= 3"))
        refused = streamgauge(settings, "apply", "--file", str(file), exit_code=1)
        assert "rules.yaml:5: segment keen: enter, column 1: unknown field evnts" in refused
        file.write_text(RULES)
        applied = json.loads(streamgauge(settings, "apply", "--file", str(file), "--json"))
        assert applied == {
            "version": 1,
            "applied": True,
            "added": ["keen"],
            "changed": [],
            "removed": [],
        }
        kill(worker_of(stack))
        stack.check()
        simulate(client, Simulation(events=EVENTS // 3, seed=3, rates=rates))
        again = json.loads(streamgauge(settings, "apply", "--file", str(file), "--json"))
        assert (again["version"], again["applied"]) == (2, False)
        report = verify(proof_of(settings))
    assert report.ok, report.text()
    assert report.keys["postgres.user_segments"] > 0
    assert report.keys["redis.user-segments"] > 0
    with psycopg.connect(postgres) as connection:
        schema = namespace.replace("-", "_")
        rows = connection.execute(
            f"SELECT user_id, reason_in->>'change', segment FROM {schema}.user_segments"
            " ORDER BY entered_at, user_id"
        ).fetchall()
    changes = [user for user, change, segment in rows if (change, segment) == ("rule v1", "keen")]
    assert len(changes) == len(set(changes)) > 0
    others = {segment for _, change, segment in rows if change is not None} - {"keen"}
    assert others == set()
    (row,) = streamgauge(settings, "explain", changes[0], "--history", "--json").splitlines()[-1:]
    assert json.loads(row)["segment"]
