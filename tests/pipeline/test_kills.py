"""The whole pipeline on real servers, through kill -9 of workers and sinks while there is lag.

    simulate ──> events ──> worker 0, worker 1 ──> metrics ──> Postgres, Redis
                               ^ kill -9 ^                     ^ kill -9 ^

Afterwards `verify` finds no difference, and the whole topic replayed into a fresh namespace gives
the very same rows. FAULTS=all runs it, KILL_EVENTS=300000 makes it long.
"""

import os
import random
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from streamgauge.cli.settings import Settings
from streamgauge.cli.stack.stack import Stack
from streamgauge.cli.verify import compare_namespaces, verify
from streamgauge.producers import RecordProducer
from streamgauge.producers.simulator import Rates, Simulation, simulate
from tests.pipeline.product import kill, proof_of

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.postgres,
    pytest.mark.redis,
    pytest.mark.alone,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        os.environ.get("FAULTS") != "all", reason="chaos does it too, for the most part: FAULTS=all"
    ),
]

EVENTS = int(os.environ.get("KILL_EVENTS", "15000"))
RATE = int(os.environ.get("KILL_RATE", "750"))
KILLS = int(os.environ.get("KILLS", "5"))


def test_nothing_is_lost_or_doubled_and_a_replay_gives_the_same_rows(
    kafka, postgres, redis_url, namespace, registry_url, tmp_path
):
    settings = Settings(
        kafka=kafka,
        postgres=postgres,
        redis=redis_url,
        registry=registry_url,
        namespace=namespace,
        dir=tmp_path,
        workers=2,
    )
    rng = random.Random(7)
    with Stack(settings, tmp_path / "stack", sinks=("postgres", "redis")) as stack:
        client = RecordProducer(kafka=kafka, registry=registry_url, namespace=namespace)
        simulation = Simulation(
            events=EVENTS, rate=RATE, seed=7, rates=Rates(duplicates=0.01, late=0.01, broken=0.001)
        )
        sending = threading.Thread(target=simulate, args=(client, simulation), daemon=True)
        sending.start()
        time.sleep(8)
        killed = 0
        while sending.is_alive() or killed < KILLS:
            time.sleep(rng.uniform(0.5, 2) * EVENTS / RATE / KILLS / 1.5)
            child = rng.choice(stack.children)
            if child.pid is not None and killed < KILLS:
                kill(child)
                killed += 1
            stack.check()
        sending.join()
        config = proof_of(settings)
        report = verify(config)
    assert report.ok, report
    assert report.read - report.ticks == EVENTS
    assert killed == KILLS

    fresh = settings.model_copy(update={"namespace": f"{namespace}-r"})
    for command in (
        ["topics", "create"],
        ["worker", "--until-end", "--events-topic", config.events],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "streamgauge.cli", *command],
            env={**os.environ, **fresh.environment()},
            timeout=900,
        )
        assert done.returncode == 0
    live = replace(config, postgres=None, redis=None)
    replayed = replace(live, namespace=fresh.namespace, events_topic=config.events)
    same = compare_namespaces(live, replayed)
    assert same.ok, same
