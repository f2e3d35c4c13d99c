"""B5: how long a worker takes to have the state of a million users again.

The job is B2's (`bench/jobs/profile.py`): one event for each user fills its changelog. Then the
worker is started again, and the time runs from its assignment to the line `restored; reading` of
its log: first without checkpoints, then with those that the run before has written. A second
event for some users shows whether the state is right.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from subprocess import Popen
from time import monotonic, sleep

import numpy as np
import psutil
from confluent_kafka import Producer

from bench import events
from bench.context import CACHE, HERE, Context, say
from bench.rows import Figure, Row
from streamgauge.cli.stack import process
from streamgauge.cli.verify.log import Log

USERS = 1_000_000
AGAIN = 50_000
"""Users with a second event."""
GOAL_S = 5
NAME = "b5"


@dataclass(frozen=True, kw_only=True)
class Restored:
    """One start of the worker."""

    wall_s: float
    cpu_s: float
    rss_mb: float


def restore(context: Context) -> list[Row]:
    """A start from the changelog, and one from a checkpoint on local disk."""
    source, out = f"{NAME}-events", f"{NAME}-out"
    context.create(source)
    context.create(out)
    _send(context, source, range(USERS // events.CHUNK), events.CHUNK)
    _run(context, source, out, "fill")
    rows = []
    for number, (name, what) in enumerate(
        (("from the changelog", "changelog"), ("from a checkpoint", "checkpoint"))
    ):
        log = Log({"bootstrap.servers": context.kafka.bootstrap})
        written = log.bounds(out)[1]
        _send(context, source, range(number, number + 1), AGAIN)
        found = _run(context, source, out, what)
        counts = [
            json.loads(message.value() or b"{}")["events"]
            for some in log.read(out, written, log.bounds(out)[1])
            for message in some
        ]
        log.close()
        say(f"{NAME}: {name} {found.wall_s:.1f} s, {found.cpu_s:.1f} s of CPU")
        rows.append(
            Row(
                name=name,
                figures={
                    "seconds": Figure(value=found.wall_s, unit="s", at_most=GOAL_S),
                    "CPU seconds": Figure(value=found.cpu_s, unit="s"),
                    "MB": Figure(value=found.rss_mb, unit="MB"),
                },
                facts={"users": f"{USERS:,}"},
                right=counts == [2] * AGAIN,
            )
        )
    return rows


def _send(context: Context, topic: str, chunks: range, each: int) -> None:
    """One event for each of `each` users of these chunks."""
    producer = Producer(
        {
            "bootstrap.servers": context.kafka.bootstrap,
            "linger.ms": 20,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 2_000_000,
            "partitioner": "murmur2_random",
        }
    )
    for number in chunks:
        for key, value in _records(context, number, each):
            producer.produce(topic, value, key)
        producer.poll(0)
    if left := producer.flush(60):
        raise RuntimeError(f"{left} events did not reach {topic}")


def _records(context: Context, number: int, each: int) -> Iterator[tuple[bytes, bytes]]:
    part = events.chunk(number)
    part = replace(part, user=number * events.CHUNK + np.arange(events.CHUNK))
    for at, record in enumerate(events.records(part, context.schema_id)):
        if at == each:
            return
        yield record


def _run(context: Context, source: str, out: str, what: str) -> Restored:
    """Start the worker, wait until it is through with what there is, stop it."""
    log = CACHE / "logs" / f"{NAME}-{what}.log"
    log.unlink(missing_ok=True)
    checkpoints = context.folder / f"{NAME}-checkpoints"
    topics = Log({"bootstrap.servers": context.kafka.bootstrap})
    end = topics.bounds(source)[1]
    popen = process.spawn(
        [sys.executable, "-u", str(HERE / "jobs" / "profile.py")],
        log=log,
        env={
            **os.environ,
            "GROUP": NAME,
            "SOURCE": source,
            "OUT": out,
            "KAFKA": context.kafka.bootstrap,
            "REGISTRY": context.registry,
            "LOGLEVEL": "INFO",
            "POLARS_MAX_THREADS": "1",
            **({} if what == "fill" else {"CHECKPOINTS": str(checkpoints)}),
        },
    )
    try:
        worker = psutil.Process(popen.pid)
        began = _await_line(log, popen, r"assigned .*/", context.timeout)
        cpu = sum(worker.cpu_times()[:2])
        ended = _await_line(log, popen, "restored; reading", context.timeout)
        found = Restored(
            wall_s=(ended - began).total_seconds(),
            cpu_s=sum(worker.cpu_times()[:2]) - cpu,
            rss_mb=worker.memory_info().rss / (1 << 20),
        )
        deadline = monotonic() + context.timeout
        while topics.committed(NAME, source) != end:
            if popen.poll() is not None or monotonic() > deadline:
                raise RuntimeError(f"the worker does not get through, see {log}")
            sleep(0.2)
        if what == "changelog":  # its checkpoints are for the next run
            _await_line(log, popen, r"\d+ checkpoints in", context.timeout)
    finally:
        process.stop(popen, 30)
        topics.close()
    return found


def _await_line(log: Path, popen: Popen[bytes], pattern: str, timeout: float) -> datetime:
    """When the line was logged, once it is there."""
    deadline = monotonic() + timeout
    line = re.compile(rf"^\[([\d-]+ [\d:,]+)\].*{pattern}", re.MULTILINE)
    while True:
        if found := line.search(log.read_text() if log.exists() else ""):
            return datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S,%f")
        if popen.poll() is not None or monotonic() > deadline:
            raise RuntimeError(f"no line {pattern!r} in {log}")
        sleep(0.005)
