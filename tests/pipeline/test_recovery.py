"""Workers that come back, take over from a standby, and share the work by class: nothing changes.

    simulate ──> events ──> worker (kill -9) ──> worker from checkpoints ──> worker from a standby's
                               └── standby, on a machine of its own ──────────────┘

Afterwards `verify` finds no difference in the topics.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from streamgauge.cli.settings import Settings
from streamgauge.cli.verify import VerifyConfig, verify
from streamgauge.cli.verify.log import Log
from streamgauge.producers import RecordProducer
from streamgauge.producers.simulator import Rates, Simulation, simulate
from streamgauge.schemas.topics import create_topics
from streamgauge.streams.engine.checkpoint import found, verified

pytestmark = [pytest.mark.kafka, pytest.mark.alone, pytest.mark.timeout(900)]

EVENTS = 6000
RATES = Rates(duplicates=0.01, late=0.01, broken=0.001)
PATIENCE = 120.0  # seconds
STATES = 12  # four partitions each of events, metric-partials and anomaly-points


class Machine:
    """A namespace and the processes that work on it."""

    def __init__(self, kafka, registry, namespace, folder):
        self.settings = Settings(
            kafka=kafka,
            registry=registry,
            namespace=namespace,
            dir=folder / "state",
            checkpoint_interval=1,
        )
        create_topics({"bootstrap.servers": kafka}, namespace)
        self.folder = folder
        self.processes = []

    def start(self, *arguments, name="worker", **changes):
        settings = self.settings.model_copy(update=changes)
        with self.log_of(name).open("a") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "streamgauge.cli", *arguments],
                env={**os.environ, **settings.environment(), "POLARS_MAX_THREADS": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(process)
        return process

    def log_of(self, name):
        return self.folder / f"{name}.log"

    def simulate(self, seed):
        settings = self.settings
        client = RecordProducer(settings.kafka, settings.registry, settings.namespace)
        simulate(client, Simulation(events=EVENTS, seed=seed, rates=RATES))

    def differences(self):
        settings = self.settings
        config = VerifyConfig(
            kafka={"bootstrap.servers": settings.kafka},
            registry=settings.registry,
            namespace=settings.namespace,
            timeout=PATIENCE,
        )
        report = verify(config)
        assert report.ok, report

    def await_checkpoints(self, folder):
        """Until there is one of every state, and those of the events hold nearly all of them."""
        log = Log({"bootstrap.servers": self.settings.kafka})
        events = f"{self.settings.namespace}.events"
        behind = sum(log.bounds(events)[1].values()) - EVENTS / 8
        log.close()

        def there():
            heads = [verified(path)[0] for path in found(folder)]
            held = sum(head.offset for head in heads if head.topic == events)
            return len(heads) == STATES and held >= behind

        eventually(there, "no checkpoints")
        time.sleep(3)

    def restored(self, name="worker"):
        """Rows and checkpoints of the last restore that the log tells of."""
        line = r"restored (\d+) rows in .* s, (\d+) partitions from checkpoints"
        return tuple(map(int, re.findall(line, self.log_of(name).read_text())[-1]))


@pytest.fixture
def machine(kafka, registry_url, namespace, tmp_path):
    machine = Machine(kafka, registry_url, namespace, tmp_path)
    yield machine
    for process in machine.processes:
        if process.poll() is None:
            process.kill()
            process.wait()


def eventually(true, what):
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline, what
        time.sleep(0.3)


def test_a_restart_reads_only_the_tail_and_so_does_a_takeover_from_a_standby(machine):
    afar = machine.folder / "afar"
    worker = machine.start("worker")
    standby = machine.start("standby", name="standby", dir=afar)
    machine.simulate(1)
    machine.differences()
    machine.await_checkpoints(machine.settings.checkpoint_folder)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    gone = machine.start("status", "--json", name="status").wait()
    assert gone == 3  # there is no Postgres
    told = json.loads(machine.log_of("status").read_text())
    assert [one["alive"] for one in told["workers"]] == [False]

    again = machine.start("worker", name="again")
    machine.simulate(2)
    machine.differences()
    rows, loaded = machine.restored("again")
    assert loaded == STATES
    assert rows < EVENTS / 4
    machine.await_checkpoints(afar / "checkpoints")
    again.send_signal(signal.SIGKILL)
    standby.terminate()
    assert standby.wait(PATIENCE) == 0

    machine.start("worker", name="there", dir=afar)
    machine.simulate(3)
    machine.differences()
    rows, loaded = machine.restored("there")
    assert loaded == STATES
    assert rows < EVENTS / 4


def test_agents_apart_are_exactly_once_together(machine):
    workers = [
        machine.start("worker", "--agents", agents, "--id", name, name=name)
        for name, agents in (("source", "source"), ("rest", "merge,results,anomalies"))
    ]
    machine.simulate(1)
    machine.differences()
    machine.await_checkpoints(machine.settings.checkpoint_folder)
    workers[0].send_signal(signal.SIGKILL)
    machine.start("worker", "--agents", "source", "--id", "source", name="source")
    machine.simulate(2)
    machine.differences()
    assert machine.restored("source")[1] == STATES / 3
