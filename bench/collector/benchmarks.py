"""B6: what the collector takes, how long an answer lasts, and what becomes of too much.

One collector process, acks=all, its spool on, on a real Kafka; the clients are a process of their
own (load.py). Events a second and core are events answered `ok` by the CPU of the collector's whole
process, librdkafka's threads included: the machine is shared by collector, clients and broker.
Each run is checked: the topic holds as many events as were answered `ok`, or more where a
connection broke or an answer came too late.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import numpy as np

from bench.collector.load import Outcome, Plan
from bench.context import HERE, Context
from bench.pipeline.product import Product, Running
from bench.rows import Figure, Row
from streamgauge.cli.verify.log import Log
from streamgauge.schemas.topics import EVENTS, qualified

RATE = 20_000
SINGLE_RATE = 3_000
P99_MS = 50
CONNECTIONS = 10_000
MEMORY_MB = 400
WARM_S = 3.0
CHECK_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Run:
    """One plan's outcome, and what it cost."""

    outcome: Outcome
    cpu_s: float
    peak_mb: float
    stored: int
    """Events that the topic has more after it than before."""

    @property
    def per_core(self) -> float:
        return self.outcome.ok / self.cpu_s

    @property
    def per_second(self) -> float:
        return self.outcome.ok / self.outcome.seconds

    @property
    def right(self) -> bool:
        """Nothing that was answered ok is missing, and nothing is there that was not sent."""
        exact = not self.outcome.lost and set(self.outcome.statuses) == {"200"}
        return self.stored == self.outcome.ok if exact else self.stored >= self.outcome.ok

    def quantile(self, of: float) -> float:
        found = self.outcome.latencies_ms
        return float(np.percentile(found, of)) if found else float("nan")


class Bench:
    """A collector and its clients."""

    def __init__(self, product: Product, collector: Running) -> None:
        self._collector = collector
        self._topic = qualified(product.namespace, EVENTS.name)
        self._log = Log({"bootstrap.servers": product.kafka, "log_level": 0})
        self._runs = 0

    def run(self, *, connections: int, batch: int, seconds: float, rate: float = 0) -> Run:
        """Carry a plan out."""
        self._runs += 1
        plan = Plan(
            host="127.0.0.1",
            port=self._collector.port,
            connections=connections,
            batch=batch,
            seconds=seconds,
            rate=rate,
            prefix=f"r{self._runs}",
        )
        before, cpu = self._events(), self._collector.cpu_s
        with _peak(self._collector) as peak:
            command = [sys.executable, "-m", "bench.collector.load", json.dumps(asdict(plan))]
            done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parent)
        if done.returncode:
            raise RuntimeError(done.stderr)
        outcome = Outcome(**json.loads(done.stdout))
        cpu = self._collector.cpu_s - cpu
        deadline = time.monotonic() + CHECK_S
        while (stored := self._events() - before) < outcome.ok and time.monotonic() < deadline:
            time.sleep(0.5)  # what waits in the spool
        return Run(outcome=outcome, cpu_s=cpu, peak_mb=max(peak), stored=stored)

    def close(self) -> None:
        """Let go of the connections."""
        self._log.close()

    def _events(self) -> int:
        begins, ends = self._log.bounds(self._topic)
        return sum(ends[p] - begins[p] for p in ends)


@contextmanager
def _peak(collector: Running) -> Iterator[list[float]]:
    """The memory seen while it runs, in MB."""
    seen, done = [collector.rss_mb], threading.Event()

    def look() -> None:
        while not done.wait(0.2):
            seen.append(collector.rss_mb)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def collector(context: Context) -> list[Row]:
    """B6."""
    seconds = min(context.seconds, 20)
    with Product(context, "b6") as product:
        spool = str(context.folder / "b6-spool")
        running = product.collector("--spool", spool, "--client-rate", "0")
        product.await_(running.ready, "ready collector")
        bench = Bench(product, running)
        bench.run(connections=16, batch=100, seconds=WARM_S)
        most = bench.run(connections=16, batch=100, seconds=seconds)
        rows = [
            _row("batches of 100", most, {"events/s a core": RATE}),
        ]
        half = bench.run(connections=64, batch=100, seconds=seconds, rate=most.per_second / 2)
        rows.append(_row("the same at half of that", half, {"p99 ms": P99_MS}))
        single = bench.run(connections=64, batch=1, seconds=seconds)
        rows.append(_row("one by one", single, {"events/s a core": SINGLE_RATE}))
        many = bench.run(connections=CONNECTIONS, batch=1, seconds=seconds, rate=500)
        rows.append(_row(f"{many.outcome.connected:,} connections", many, {}))
        twice = bench.run(connections=2000, batch=100, seconds=seconds, rate=most.per_second * 2)
        rows.append(_row("batches at twice what it takes", twice, {"peak MB": MEMORY_MB}))
        bench.close()
    return rows


def _row(name: str, run: Run, goals: dict[str, float]) -> Row:
    figures = {
        "events/s a core": run.per_core,
        "events/s": run.per_second,
        "p50 ms": run.quantile(50),
        "p99 ms": run.quantile(99),
        "peak MB": run.peak_mb,
    }
    said = ", ".join(f"{count:,} x {status}" for status, count in run.outcome.statuses.items())
    return Row(
        name=name,
        figures={
            figure: Figure(
                value=value,
                at_least=goals.get(figure) if figure.startswith("events") else None,
                at_most=None if figure.startswith("events") else goals.get(figure),
            )
            for figure, value in figures.items()
        },
        facts={"answers": said + (f", {run.outcome.lost:,} lost" if run.outcome.lost else "")},
        right=run.right,
        details={"clients_cpu_s": run.outcome.cpu_s, "cpu_s": run.cpu_s, "stored": run.stored},
    )
