"""B2's own job keeps its promise: exact after a `kill -9` in the middle."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

from confluent_kafka.admin import AdminClient, NewTopic

from bench import oracle
from bench.context import HERE
from bench.events import SCHEMA, Traffic, load
from bench.measure import Lag
from streamgauge.schemas.registry import open_registry

TRAFFIC = Traffic(count=200_000)


@contextmanager
def running(environment: dict[str, str]) -> Iterator["subprocess.Popen[bytes]"]:
    command = [sys.executable, str(HERE / "jobs" / "profile.py")]
    process = subprocess.Popen(command, env=os.environ | environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def test_profiles_are_exact_after_a_kill(kafka: str, namespace: str, registry_url: str) -> None:
    source, out = f"{namespace}-events", f"{namespace}-out"
    admin = AdminClient({"bootstrap.servers": kafka})
    for done in admin.create_topics([NewTopic(source, 4, 1), NewTopic(out, 4, 1)]).values():
        done.result()
    schema_id = open_registry(registry_url).register("bench.Event", json.loads(SCHEMA))
    load(kafka, source, schema_id, TRAFFIC.chunks())
    settings = {"GROUP": namespace, "SOURCE": source, "OUT": out, "KAFKA": kafka}
    settings |= {"REGISTRY": registry_url, "COMMIT_INTERVAL": "0.1", "PARTITIONS": "4"}
    deadline = time.monotonic() + 200
    with closing(Lag(kafka, namespace, source, "-")) as lag:
        with running(settings) as process:
            while (behind := lag.records()) == TRAFFIC.count and time.monotonic() < deadline:
                time.sleep(0.02)
            process.send_signal(signal.SIGKILL)
        assert 0 < behind < TRAFFIC.count
        with running(settings):
            while lag.records() and time.monotonic() < deadline:
                time.sleep(0.2)
    found, _ = oracle.written(kafka, out)
    assert oracle.wrong(oracle.profile(TRAFFIC.chunks()), found) == 0
