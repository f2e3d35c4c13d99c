"""A steady flow through the whole product: how long until it shows, and what an event costs.

    send, paced ──> events ──> worker (source, merge) ──> metrics ──> Redis sink ──> counters
     when, by type                                                                     looked at
                                                                                    every 10 ms
An event's latency is the time from the call that sends it to the first look at which the counter
of its type (metric `events` by `event_type`, minutes added up) counts it: the n-th event sent of a
type shows when that counter is n or more. So every event is measured, none is a probe.
"""

from __future__ import annotations

import gc
import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import psutil
from redis import Redis

from bench.context import Context, say
from bench.pipeline import traffic
from bench.pipeline.product import Product, rows_out, start_experiments
from bench.pipeline.traffic import Record
from streamgauge.cli.verify import VerifyConfig, verify
from streamgauge.producers.records import RecordProducer

WARM_S = 6
TICK_S = 0.005
LOOK_S = 0.01
MINUTE_MS = 60_000


@dataclass(frozen=True, kw_only=True)
class Flow:
    """What a steady flow showed, the warm-up left out."""

    rate: float
    """Events a second, as it came out."""
    events: int
    latency_ms: np.ndarray
    cpu_us: Mapping[str, float]
    """CPU µs an event, by process; the servers too."""
    rss_mb: float
    """Of the worker, at the end."""
    peak_rss_mb: float
    rows: Mapping[str, float]
    """Rows the worker wrote per event, by topic."""
    table_rows: float
    """Rows inserted or updated in Postgres per event."""
    wrong: int
    """Differences that `verify` found, or events that never showed."""


@cache
def flow(
    context: Context,
    rate: int,
    seconds: float,
    *,
    worker_flags: tuple[str, ...] = (),
    sink_flags: tuple[str, ...] = (),
    tables: bool = False,
) -> Flow:
    """Send at a steady rate through a worker and a Redis sink of their own.

    With `tables` a Postgres sink runs beside them, and `verify` compares everything in the end.
    """
    count = int(rate * (WARM_S + seconds))
    records = list(traffic.records(context.registry, 0, count, per_minute=rate * 60))
    namespace = f"live-{rate}"
    with Product(context, namespace) as product:
        start_experiments(context, namespace)
        worker, sink = product.worker("worker", *worker_flags), product.sink("redis", *sink_flags)
        running = [worker, sink]
        if tables:
            running.append(product.sink("postgres"))
        product.await_(lambda: all(one.ready() for one in running), "assignment")
        pids = {one.name: one.popen.pid for one in running}
        pids |= {"kafka": context.kafka.pid, "redis": product.redis.pid}
        with RecordProducer(product.kafka, context.registry, namespace) as client:
            watch = _Watch(product.redis.url, namespace, records[0].timestamp // MINUTE_MS)
            sending = _Sending(client, records, rate, watch)
            gc.collect()
            gc.freeze()
            sending.run(int(rate * WARM_S))
            before, sent = _cpu(pids), rows_out(worker)
            began, since = sending.done, time.monotonic()
            sending.run(count)
            after, took = _cpu(pids), time.monotonic() - since
            gc.unfreeze()
        measured = count - began
        shown = watch.await_all(sending.totals, timeout=60)
        rows = rows_out(worker)
        wrong = 0 if shown else sum(sending.totals.values()) - sum(watch.totals().values())
        found = Flow(
            rate=measured / took,
            events=measured,
            latency_ms=_latencies(sending, watch, began) * 1000,
            cpu_us={name: (after[name] - before[name]) / measured * 1e6 for name in after},
            rss_mb=worker.rss_mb,
            peak_rss_mb=worker.peak_rss_mb,
            rows={topic: (rows[topic] - sent[topic]) / measured for topic in rows},
            table_rows=product.table_rows() / count if tables else 0.0,
            wrong=wrong + (_differences(product) if tables else 0),
        )
    p50, p99 = np.percentile(found.latency_ms, [50, 99])
    say(
        f"{namespace}: p50 {p50:.0f} ms, p99 {p99:.0f} ms, {found.rate:,.0f}/s, "
        f"{found.wrong} wrong; "
        + ", ".join(f"{name} {cost:.1f} µs" for name, cost in found.cpu_us.items())
    )
    return found


class _Watch:
    """Looks at the counters, again and again."""

    def __init__(self, url: str, namespace: str, minute: int) -> None:
        self.looks: list[float] = []
        self.counts: dict[str, list[tuple[int, int]]] = defaultdict(list)  # (look, count)
        self.minute = minute
        """The newest that something was sent for."""
        self._known: dict[tuple[str, int], int] = {}
        self._redis = Redis.from_url(url, decode_responses=True)
        self._keys = [f"{namespace}:{{metrics-{p}}}:events:1m:" for p in range(4)]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def totals(self) -> Counter[str]:
        """Events that show by now, by type."""
        totals: Counter[str] = Counter()
        for (kind, _), count in self._known.copy().items():
            totals[kind] += count
        return totals

    def await_all(self, sent: Mapping[str, int], timeout: float) -> bool:
        """Wait until everything shows; whether it does, and nothing more."""
        deadline = time.monotonic() + timeout
        while self.totals() != sent and time.monotonic() < deadline:
            time.sleep(0.05)
        self._stop.set()
        self._thread.join()
        return self.totals() == sent

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.is_set():
            self._look()
            due = max(due + LOOK_S, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))

    def _look(self) -> None:
        minutes = range(self.minute - 1, self.minute + 1)
        asked = [(minute, key) for minute in minutes for key in self._keys]
        pipeline = self._redis.pipeline(transaction=False)
        for minute, key in asked:
            pipeline.hgetall(f"{key}{minute * MINUTE_MS}")
        answers = pipeline.execute()
        self.looks.append(time.monotonic())
        changed = set()
        for (minute, _), answer in zip(asked, answers, strict=True):
            for field_, value in answer.items():
                kind = json.loads(field_).get("event_type")
                if kind is not None and self._known.get((kind, minute)) != float(value):
                    self._known[kind, minute] = int(float(value))
                    changed.add(kind)
        totals = self.totals() if changed else {}
        for kind in changed:
            self.counts[kind].append((len(self.looks) - 1, totals[kind]))


@dataclass
class _Sending:
    """Records, sent on time; and when each was."""

    client: RecordProducer
    records: Sequence[Record]
    rate: float
    watch: _Watch
    done: int = 0
    times: list[tuple[int, float]] = field(default_factory=list)  # (first record, when)

    @property
    def totals(self) -> Counter[str]:
        return Counter(record.kind for record in self.records[: self.done])

    def run(self, until: int) -> None:
        """Go on to this record; after a stall what was missed is made good at once."""
        began, first = time.monotonic(), self.done
        while self.done < until:
            now = time.monotonic()
            due = min(until, first + int((now - began + TICK_S) * self.rate))
            if due > self.done:
                self.times.append((self.done, now))
                for record in self.records[self.done : due]:
                    self.client.send(record.key, record.value)
                newest = self.records[due - 1].timestamp // MINUTE_MS
                self.watch.minute = max(self.watch.minute, newest)
                self.done = due
            time.sleep(max(0.0, TICK_S - (time.monotonic() - now)))


def _latencies(sending: _Sending, watch: _Watch, began: int) -> np.ndarray:
    """Seconds until each event from `began` on showed, in the order they were sent in."""
    firsts, whens = (np.array(column) for column in zip(*sending.times, strict=True))
    number = np.arange(sending.done)
    sent = whens[np.searchsorted(firsts, number, side="right") - 1]
    kinds = np.array([record.kind for record in sending.records[: sending.done]])
    looks = np.array(watch.looks)
    latency = np.full(sending.done, np.inf)
    for kind, seen in watch.counts.items():
        at, counts = (np.array(column) for column in zip(*seen, strict=True))
        mine = np.flatnonzero(kinds == kind)
        place = np.searchsorted(np.maximum.accumulate(counts), np.arange(1, len(mine) + 1))
        shown = np.append(looks[at], np.inf)[place]
        latency[mine] = shown - sent[mine]
    return latency[began:]


def _cpu(pids: Mapping[str, int | None]) -> dict[str, float]:
    return {name: sum(psutil.Process(pid).cpu_times()[:2]) for name, pid in pids.items()}


def _differences(product: Product) -> int:
    settings = product.settings()
    report = verify(
        VerifyConfig(
            kafka={"bootstrap.servers": product.kafka},
            registry=settings.need("registry"),
            namespace=settings.namespace,
            redis=settings.redis,
            postgres=settings.postgres,
        )
    )
    return sum(report.different.values())
