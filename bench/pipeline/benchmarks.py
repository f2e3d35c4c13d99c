"""B3, B4, B9 and B10: the product's whole catalogue, live and on a replay, in runs they share.

Live: one worker and a Redis sink at a steady rate (at the lower one a Postgres sink too). Replay:
one worker, or two, over a topic that is full. Each run is checked: live by `verify` or by the
counters having reached exactly what was sent, on a replay by the events that all minutes count.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from bench.context import PARTITIONS, Context
from bench.pipeline.live import Flow, flow
from bench.pipeline.replay import Replay, replay, slope_us
from bench.rows import Figure, Row

CPU = "CPU µs an event"
SECONDS = {5_000: 24.0, 20_000: 24.0}
"""How long is measured at each rate."""
STEADY_US = {5_000: 60, 20_000: 30}
REPLAY_US = 12
P50_MS, P99_MS = 250, 600
SCALE = 1.1
MEMORY_MB = 400


def steady(context: Context, rate: int) -> Flow:
    """The live run at a rate."""
    return flow(context, rate, SECONDS[rate], tables=rate == min(SECONDS))


def replays(context: Context, workers: int) -> tuple[Replay, Replay]:
    """The replay of each size."""
    few, many = context.events, 2 * context.events
    return replay(context, workers, few), replay(context, workers, many, tables=workers == 1)


def pipeline(context: Context) -> list[Row]:
    """B3: what an event costs, and how many rows it writes."""
    small, large = replays(context, 1)
    rows = [
        Row(
            name="replay",
            figures={
                CPU: Figure(value=slope_us(small, large), unit="µs", at_most=REPLAY_US),
                "of the broker": Figure(value=large.broker_s / large.events * 1e6, unit="µs"),
                "events/s": Figure(value=large.events / large.wall_s, unit="/s"),
                **_rows({topic: rows / large.events for topic, rows in large.rows.items()}),
                "table rows": Figure(value=large.table_rows / large.events),
            },
            facts={"events": f"{small.events:,} → {large.events:,}"},
            right=small.right and large.right,
        )
    ]
    for rate in SECONDS:
        found = steady(context, rate)
        tables = {"table rows": Figure(value=found.table_rows)} if found.table_rows else {}
        rows.append(
            Row(
                name=f"steady {rate:,}/s",
                figures={
                    CPU: Figure(value=found.cpu_us["worker"], unit="µs", at_most=STEADY_US[rate]),
                    "of the broker": Figure(value=found.cpu_us["kafka"], unit="µs"),
                    "events/s": Figure(value=found.rate, unit="/s"),
                    **_rows(found.rows),
                    **tables,
                },
                facts={"events": f"{found.events:,}"},
                right=found.wrong == 0,
                details={"cpu_us": dict(found.cpu_us)},
            )
        )
    return rows


def latency(context: Context) -> list[Row]:
    """B4: from the call that sends an event until its counter in Redis shows it."""
    rows = []
    for rate in SECONDS:
        found = steady(context, rate)
        goals = (P50_MS, P99_MS) if rate == max(SECONDS) else (None, None)
        p50, p90, p99, most = np.percentile(found.latency_ms, [50, 90, 99, 100]).tolist()
        rows.append(
            Row(
                name=f"steady {rate:,}/s",
                figures={
                    "p50 ms": Figure(value=p50, unit="ms", at_most=goals[0]),
                    "p90 ms": Figure(value=p90, unit="ms"),
                    "p99 ms": Figure(value=p99, unit="ms", at_most=goals[1]),
                    "most ms": Figure(value=most, unit="ms"),
                    "worker µs an event": Figure(value=found.cpu_us["worker"], unit="µs"),
                    "Redis sink µs an event": Figure(value=found.cpu_us["sink-redis"], unit="µs"),
                    "broker µs an event": Figure(value=found.cpu_us["kafka"], unit="µs"),
                },
                facts={"events": f"{found.events:,}"},
                right=found.wrong == 0,
                details={"median_ms_by_second": _by_second(found)},
            )
        )
    return rows


def scale(context: Context) -> list[Row]:
    """B9: one worker and two over the same partitions."""
    rows = []
    one = slope_us(*replays(context, 1))
    for workers in (1, 2):
        small, large = replays(context, workers)
        cpu = slope_us(small, large)
        share = large.broker_s / (large.broker_s + large.cpu_s)
        rows.append(
            Row(
                name="1 worker" if workers == 1 else f"{workers} workers",
                figures={
                    CPU: Figure(value=cpu, unit="µs"),
                    "times one's": Figure(value=cpu / one, at_most=None if workers == 1 else SCALE),
                    "events/s": Figure(value=large.events / large.wall_s, unit="/s"),
                    "broker's share of the CPU %": Figure(value=share * 100, unit="%"),
                },
                facts={
                    "partitions": str(PARTITIONS),
                    "events": f"{small.events:,} → {large.events:,}",
                },
                right=small.right and large.right,
            )
        )
    return rows


def memory(context: Context) -> list[Row]:
    """B10: what a worker holds, live and on a replay."""
    rows = []
    _, large = replays(context, 1)
    for name, found in (
        ("replay", large),
        *((f"steady {r:,}/s", steady(context, r)) for r in SECONDS),
    ):
        rows.append(
            Row(
                name=name,
                figures={
                    "peak MB": Figure(value=found.peak_rss_mb, unit="MB", at_most=MEMORY_MB),
                    "MB at the end": Figure(value=found.rss_mb, unit="MB"),
                },
                facts={"events": f"{found.events:,}", "users": "200,000"},
            )
        )
    return rows


def _rows(by_topic: Mapping[str, float]) -> dict[str, Figure]:
    return {f"{topic} rows": Figure(value=rows) for topic, rows in sorted(by_topic.items())}


def _by_second(found: Flow) -> list[int]:
    seconds = np.array_split(found.latency_ms, max(1, round(found.events / found.rate)))
    return [int(np.median(each)) for each in seconds]
