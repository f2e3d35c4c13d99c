"""B8: how fast the Postgres sink upserts what has gathered in the topic `metrics`.

Half of the rows are new keys, the other half newer rows of the same keys, in the shape of one
grain of the catalogue: one record is a row for each of five metrics. The clock runs from the
sink's assignment until its positions are at the end; Postgres waits for the disk at every commit.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import polars as pl
import psutil
import psycopg
from confluent_kafka import Producer

from bench.context import Context, say
from bench.pipeline.product import Product
from bench.rows import Figure, Row
from streamgauge.schemas.encoder import Encoder
from streamgauge.schemas.records import MetricUpdate
from streamgauge.schemas.registry import open_registry
from streamgauge.schemas.topics import METRICS, qualified

METRIC_NAMES = ("requests", "error_rate", "response_time", "response_time_max", "cache_hit_rate")
ROUTES = 500
START = 1_760_000_040_000
ROWS = 500_000
GOAL = 50_000
NAMESPACE = "tables"


def tables(context: Context) -> list[Row]:
    """Rows a second, and what one costs the sink and Postgres."""
    keys = ROWS // 2 // len(METRIC_NAMES)
    with Product(context, NAMESPACE) as product:
        _fill(context, product, keys)
        dsn = product.postgres.dsn
        sink = product.sink("postgres")
        product.await_(sink.ready, "assignment", poll=0.01)
        began, cpu = time.monotonic(), _cpu(sink.popen.pid, product.postgres.pid)
        product.await_(lambda: product.lag("sink-postgres", METRICS.name) == 0, "end", poll=0.05)
        took = time.monotonic() - began
        after = _cpu(sink.popen.pid, product.postgres.pid)
        right = _right(dsn, keys)
        written = sum(sink.metric("streamgauge_sink_rows_total").values()) * len(METRIC_NAMES)
        peak = sink.peak_rss_mb
    of_sink, of_postgres = ((b - a) / written * 1e6 for a, b in zip(cpu, after, strict=True))
    say(f"tables: {written / took:,.0f} rows/s")
    return [
        Row(
            name="Postgres sink",
            figures={
                "rows/s": Figure(value=written / took, unit="/s", at_least=GOAL),
                "CPU µs a row": Figure(value=of_sink, unit="µs"),
                "of Postgres": Figure(value=of_postgres, unit="µs"),
                "peak MB": Figure(value=peak, unit="MB"),
            },
            facts={"rows": f"{written:,.0f}, half of them new"},
            right=right,
        )
    ]


def _fill(context: Context, product: Product, keys: int) -> None:
    """Each key twice; the second value is the one to stay."""
    topic = qualified(NAMESPACE, METRICS.name)
    producer = Producer({"bootstrap.servers": product.kafka, "linger.ms": 20})
    for round_ in range(2):
        for key, value in _updates(context, keys, round_):
            producer.produce(topic, value, key)
            producer.poll(0)
    if left := producer.flush(60):
        raise RuntimeError(f"{left} rows did not reach {topic}")


def _updates(context: Context, keys: int, round_: int) -> Iterator[tuple[bytes, bytes]]:
    encode = Encoder(open_registry(context.registry), METRICS.name, MetricUpdate).encode
    number = np.arange(keys)
    numerators = number[:, None] + np.arange(len(METRIC_NAMES)) + keys * round_
    frame = pl.DataFrame(
        {
            "window_start": START + number // ROUTES * 60_000,
            "window_size": "1m",
            "dimensions": [f'{{"route":"/api/v1/things/{n % ROUTES}"}}' for n in number],
            "version": "0123456789ab",
            "users": number % 1000,
            "is_final": round_ == 1,
            "watermark": START + number // ROUTES * 60_000,
            "metrics": [list(METRIC_NAMES)] * keys,
            "values": (numerators / 7).tolist(),
            "numerators": numerators.astype(float).tolist(),
            "denominators": [[7.0] * len(METRIC_NAMES)] * keys,
        }
    )
    places = frame.select("window_size", "window_start", "version", "dimensions").rows()
    texts = ("|".join(map(str, place)).encode() for place in places)
    yield from zip(texts, encode(frame), strict=True)


def _right(dsn: str, keys: int) -> bool:
    """Whether the tables hold the second round's values, and nothing else."""
    query = f"SELECT count(*), sum(numerator), bool_and(is_final) FROM {NAMESPACE}.metrics"
    names = len(METRIC_NAMES)
    expected = names * sum(range(keys)) + keys * sum(range(names)) + keys * keys * names
    with psycopg.connect(dsn) as connection:
        found = connection.execute(query).fetchone()
    return found is not None and found == (keys * names, expected, True)


def _cpu(*pids: int | None) -> list[float]:
    """CPU seconds of processes and all they started, up to now."""
    seconds = []
    for pid in pids:
        root = psutil.Process(pid)
        tree = [root, *root.children(recursive=True)]
        seconds.append(sum(sum(one.cpu_times()[:2]) for one in tree))
    return seconds
