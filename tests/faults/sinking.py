"""A harness around one sink: rows of `metrics` in transactions, sinks as processes, their target.

Upstream: tests of faults. Downstream: one namespace on a real Kafka, Postgres or Redis.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import redis
from confluent_kafka import Producer

from streamgauge.schemas.codec import Codec
from streamgauge.schemas.events import PageView
from streamgauge.schemas.records import MetricUpdate
from streamgauge.schemas.registry import open_registry
from streamgauge.schemas.topics import create_topics, qualified
from streamgauge.sinks.runner import schema_name

PLANTED = Path(__file__).with_name("planted.py")
NOON = 1_767_268_800_000  # 2026-01-01 12:00 UTC


class Sinking:
    """One kind of sink and what it is to bring over, all in partition 0: page views by page, or
    for the archive one event a page."""

    def __init__(
        self, kind: str, *, kafka: str, registry: str, namespace: str, target: str, logs: Path
    ) -> None:
        self.kind, self.kafka, self.namespace = kind, kafka, namespace
        self.target, self.logs = target, logs
        self.reads_at = target  # where readers look; the sink may go through a proxy
        self.bug = "none"
        self.processes: list[subprocess.Popen] = []
        create_topics({"bootstrap.servers": kafka}, namespace)
        self._registry = registry
        self._codec = Codec(open_registry(registry))
        self._producer = Producer(
            {"bootstrap.servers": kafka, "transactional.id": f"{namespace}-feed"}
        )
        self._producer.init_transactions(30)

    def commit(self, rows: Mapping[str, float | None]) -> None:
        """Absolute values, as the worker writes them; None is a tombstone."""
        self._producer.begin_transaction()
        for page, value in rows.items():
            record: Any
            if self.kind == "archive":
                topic, key = "events", page
                record = PageView(user_id="u", page_url=page, timestamp=NOON, status=value)
            else:
                topic, record = "metrics", _row(page, value or 0.0)
                key = "|".join(("1m", str(NOON), record.version, record.dimensions))
            encoded = None if value is None else self._codec.encode(topic, record)
            self._producer.produce(
                qualified(self.namespace, topic), encoded, key.encode(), partition=0
            )
        self._producer.commit_transaction(30)

    def start(self, instance: str, **environment: str) -> subprocess.Popen:
        """A sink in a process of its own, with its log in `log(instance)`."""
        settings: dict[str, Any] = {
            "kind": self.kind,
            "kafka": {"bootstrap.servers": self.kafka, "session.timeout.ms": 6000},
            "registry": self._registry,
            "target": self.target,
            "namespace": self.namespace,
            "instance": instance,
            "interval": 0.1,
        }
        with (self.logs / f"{instance}.log").open("a") as log:
            process = subprocess.Popen(
                [sys.executable, PLANTED, self.bug, "sink", json.dumps(settings)],
                env={**os.environ, **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.processes.append(process)
        return process

    def log(self, instance: str) -> str:
        return (self.logs / f"{instance}.log").read_text()

    def contents(self) -> dict[str, float]:
        """What a reader of the target finds."""
        if self.kind == "archive":
            return self._in_files()
        return self._in_postgres() if self.kind == "postgres" else self._in_redis()

    def holds(self, rows: Mapping[str, float]) -> bool:
        return self.contents() == rows

    def close(self) -> None:
        """End the sinks."""
        for process in self.processes:
            process.kill()
            process.wait()

    def _in_files(self) -> dict[str, float]:
        files = sorted(Path(self.reads_at, self.namespace, "events").rglob("p*.parquet"))
        rows = [row for f in files for row in pl.read_parquet(f)["page_url", "status"].rows()]
        assert len(rows) == len(dict(rows)), "a record was archived twice"
        return dict(rows)

    def _in_postgres(self) -> dict[str, float]:
        query = f"SELECT dimensions->>'page', value FROM {schema_name(self.namespace)}.metrics"
        try:
            with psycopg.connect(self.reads_at, connect_timeout=5) as connection:
                return dict(connection.execute(query).fetchall())
        except (psycopg.OperationalError, psycopg.errors.UndefinedTable):
            return {}

    def _in_redis(self) -> dict[str, float]:
        found = {}
        pattern = f"{self.namespace}:{{metrics-*}}:page_views:*"
        try:
            with redis.Redis.from_url(self.reads_at, decode_responses=True) as client:
                for key in client.scan_iter(pattern):
                    for field, value in client.hgetall(key).items():
                        found[json.loads(field)["page"]] = float(value)
        except redis.exceptions.ConnectionError:
            return {}
        return found


def _row(page: str, value: float) -> MetricUpdate:
    return MetricUpdate(
        window_start=NOON,
        window_size="1m",
        dimensions=json.dumps({"page": page}, separators=(",", ":")),
        version="abcdef01",
        users=3,
        is_final=False,
        watermark=NOON,
        metrics=("page_views",),
        values=(value,),
        numerators=(value,),
        denominators=(1.0,),
    )


def until(what: Callable[[], Any], seconds: float = 120.0, says: Callable[[], str] = str) -> None:
    """Wait for it."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"it did not happen in time\n{says()}"
        time.sleep(0.1)


def is_stopped(process: subprocess.Popen) -> bool:
    """Whether the process has been stopped (SIGSTOP)."""
    assert process.poll() is None, f"it ended with {process.returncode}"
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
