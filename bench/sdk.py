"""b7: what `track()` takes of its caller's time, and what an event costs the whole process.

Each case is a process of its own (bench/jobs/track.py), to the run's Kafka or to a `streamgauge
collect` before it. An answer is right when every event was delivered.
"""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from bench.context import Context, say
from bench.rows import Figure, Row
from streamgauge.cli.stack import process
from streamgauge.schemas.topics import create_topics

IMPORT = (
    "import time; began = time.perf_counter(); from streamgauge.producers import Client;"
    "print((time.perf_counter() - began) * 1000)"
)
IMPORTS = 11
RATE = 1000
START_S = 60


def sdk(context: Context) -> list[Row]:
    """The import; then both ways out, at a steady rate and in a loop."""
    rows = [_imported()]
    namespace = context.unique("sdk")
    create_topics({"bootstrap.servers": context.kafka.bootstrap}, namespace)
    kafka = {
        "kafka": context.kafka.bootstrap,
        "registry": context.registry,
        "namespace": namespace,
    }
    loop = max(context.events // 20, 1000)
    steady = int(RATE * context.seconds)
    rows.append(_tracked(f"to Kafka, {RATE:,}/s", kafka, steady, RATE))
    rows.append(_tracked("to Kafka, in a loop", {**kafka, "block_s": 60}, loop, 0))
    with _collector(context, namespace) as endpoint:
        http = {"endpoint": endpoint, "write_key": "bench"}
        rows.append(_tracked(f"to the collector, {RATE:,}/s", http, steady, RATE))
        rows.append(_tracked("to the collector, in a loop", {**http, "block_s": 60}, loop, 0))
    return rows


def _imported() -> Row:
    times = []
    for _ in range(IMPORTS):
        done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, check=True)
        times.append(float(done.stdout))
    median = Figure(value=round(statistics.median(times), 1), unit="ms", at_most=100)
    return Row(name="import", figures={"import": median}, details={"ms": times})


def _tracked(name: str, settings: Mapping[str, object], events: int, rate: float) -> Row:
    say(f"b7: {name}, {events:,} events")
    command = [sys.executable, "-m", "bench.jobs.track", json.dumps(settings)]
    done = subprocess.run([*command, str(events), str(rate)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
    told = json.loads(done.stdout)
    return Row(
        name=name,
        figures={
            "track(), median": Figure(value=round(told["median_us"], 2), unit="µs", at_most=5),
            "track(), p99": Figure(value=round(told["p99_us"], 1), unit="µs"),
            "CPU of the process": Figure(value=round(told["cpu_us"], 1), unit="µs/event"),
            "rate": Figure(value=round(told["rate"]), unit="events/s"),
        },
        right=told["delivered"] == events,
        details=told,
    )


@contextmanager
def _collector(context: Context, namespace: str) -> Iterator[str]:
    port = process.free_port()
    command = [sys.executable, "-m", "streamgauge.cli", "collect", "--port", str(port)]
    environment = {
        "STREAMGAUGE_KAFKA": context.kafka.bootstrap,
        "STREAMGAUGE_REGISTRY": context.registry,
        "STREAMGAUGE_NAMESPACE": namespace,
        "STREAMGAUGE_DIR": str(context.folder / "collector"),
    }
    log = context.folder / "collector.log"
    running = process.spawn([*command, "--client-rate", "0"], log=log, env=environment)
    try:
        deadline = time.monotonic() + START_S
        while not process.listens(port):
            if running.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the collector did not start:\n{process.tail(log)}")
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.stop(running, 30)
