"""The whole catalogue over a topic of events that is there already, as fast as workers can.

Each run is a namespace of its own over the same events; a run of twice the events cancels what
starting costs. Commit interval 1 s, as in B1 and B2. Upstream: B3, B9 and B10.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import psutil

from bench.context import Context, say
from bench.pipeline import traffic
from bench.pipeline.product import Product, rows_out, start_experiments
from streamgauge.cli.verify.log import Log
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.registry import open_registry
from streamgauge.schemas.topics import EVENTS, METRIC_PARTIALS, METRICS, create_topics, qualified

SOURCE = "replayed"
FLAGS = ("--commit-interval", "1", "--tick-after", "3600")  # nobody else appends to the topic


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What a run cost, from its workers' assignment to the commit of the last row."""

    events: int
    cpu_s: float
    """Of the workers, from their start on."""
    broker_s: float
    wall_s: float
    peak_rss_mb: float
    """The most that any worker had."""
    rss_mb: float
    rows: Mapping[str, int]
    """Rows written, by topic."""
    table_rows: int
    right: bool
    """Whether the minutes count every event once."""


@cache
def replay(context: Context, workers: int, events: int, *, tables: bool = False) -> Replay:
    """Run so many workers over so many events, then (`tables`) a Postgres sink."""
    kafka = context.kafka.bootstrap
    source = _source(context, events)
    namespace = f"replay-{workers}-{events}"
    log = Log({"bootstrap.servers": kafka})
    ends = log.bounds(source)[1]
    with Product(context, namespace) as product:
        partials = qualified(namespace, METRIC_PARTIALS.name)
        group = qualified(namespace, "streamgauge-worker")

        def through() -> bool:
            if log.committed(group, source) != ends:
                return False
            end = log.bounds(partials)[1]
            return log.committed(group, partials) == end == log.bounds(partials)[1]

        broker = psutil.Process(context.kafka.pid)
        flags = (*FLAGS, "--events-topic", source)
        running = [product.worker(f"worker-{n}", *flags) for n in range(workers)]
        product.await_(lambda: all(worker.ready() for worker in running), "assignment", poll=0.02)
        spent, began = sum(broker.cpu_times()[:2]), time.monotonic()
        product.await_(through, "end")
        wall, broker_s = time.monotonic() - began, sum(broker.cpu_times()[:2]) - spent
        cpu = sum(worker.cpu_s for worker in running)
        rows: Counter[str] = Counter()
        for worker in running:
            rows += rows_out(worker)
        found = Replay(
            events=events,
            cpu_s=cpu,
            broker_s=broker_s,
            wall_s=wall,
            peak_rss_mb=max(worker.peak_rss_mb for worker in running),
            rss_mb=max(worker.rss_mb for worker in running),
            rows=rows,
            table_rows=product.written_tables() if tables else 0,
            right=_counted(context, log, namespace) == events,
        )
    log.close()
    say(
        f"{namespace}: {cpu / events * 1e6:.1f} µs with the start, {events / wall:,.0f}/s, "
        f"peak {found.peak_rss_mb:.0f} MB" + ("" if found.right else ", WRONG")
    )
    return found


def slope_us(small: Replay, large: Replay) -> float:
    """CPU µs an event, without what starting costs."""
    return (large.cpu_s - small.cpu_s) / (large.events - small.events) * 1e6


@cache
def _source(context: Context, events: int) -> str:
    """A topic with so many events."""
    namespace = f"{SOURCE}-{events}"
    create_topics({"bootstrap.servers": context.kafka.bootstrap}, namespace, partitions=4)
    start_experiments(context, namespace)
    traffic.fill(context.kafka.bootstrap, context.registry, namespace, 0, events)
    return qualified(namespace, EVENTS.name)


def _counted(context: Context, log: Log, namespace: str) -> int:
    """Events in all minutes, as the topic `metrics` has them in the end."""
    codec = Codec(open_registry(context.registry))
    topic = qualified(namespace, METRICS.name)
    newest: dict[int, float] = {}
    for some in log.read(topic, *log.bounds(topic)):
        for message in some:
            size, start, _, dimensions = (message.key() or b"").decode().split("|", 3)
            if size == "1m" and dimensions == "{}":
                row = codec.decode(message.value()).record
                counts = dict(zip(row["metrics"], row["values"], strict=True))
                if "events" in counts:
                    newest[int(start)] = counts["events"]
    return int(sum(newest.values()))
