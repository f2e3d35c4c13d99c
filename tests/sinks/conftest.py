"""Targets of the sinks behind one face, so that one suite can judge all of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import psycopg
import pytest
import redis
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Message

from streamgauge.schemas.codec import Codec
from streamgauge.schemas.events import PageView
from streamgauge.schemas.records import MetricUpdate
from streamgauge.schemas.registry import Registry, open_registry
from streamgauge.sinks.archive.sink import ArchiveSink
from streamgauge.sinks.batches import Batches
from streamgauge.sinks.errors import Retryable
from streamgauge.sinks.postgres import fence
from streamgauge.sinks.postgres.migrate import migrate
from streamgauge.sinks.postgres.sink import PostgresSink
from streamgauge.sinks.redis.sink import RedisSink
from streamgauge.sinks.runner import schema_name
from streamgauge.sinks.sink import Batch, Range, Sink

MINUTE = 60_000
NOON = 1_767_268_800_000  # 2026-01-01 12:00 UTC

Make = Callable[..., Message]


@pytest.fixture
def registry(registry_url: str) -> Registry:
    return open_registry(registry_url)


@pytest.fixture
def message(registry: Registry) -> Make:
    """A record as the consumer hands it out."""
    codec = Codec(registry)

    def make(
        topic: str,
        partition: int,
        offset: int,
        record: Any,
        key: str | None = None,
        at: int = NOON,
    ) -> Message:
        value = record if isinstance(record, bytes | None) else codec.encode(topic, record)
        return Message(
            topic=topic,
            partition=partition,
            offset=offset,
            key=None if key is None else key.encode(),
            value=value,
            timestamp=(TIMESTAMP_LOG_APPEND_TIME, at),
        )

    return make


@pytest.fixture
def update() -> Callable[..., MetricUpdate]:
    """A metric row: one metric, one dimension."""

    def make(name: str, value: float, **fields: Any) -> MetricUpdate:
        return MetricUpdate(
            **{
                "window_start": NOON,
                "window_size": "1m",
                "dimensions": json.dumps({"page": name}, separators=(",", ":")),
                "version": "abcdef01",
                "users": 3,
                "is_final": False,
                "watermark": NOON,
                "metrics": ("page_views",),
                "values": (value,),
                "numerators": (value,),
                "denominators": (1.0,),
            }
            | fields
        )

    return make


@pytest.fixture
def key_of() -> Callable[[MetricUpdate], str]:
    """The Kafka key of a metric row."""
    return lambda row: f"{row.window_size}|{row.window_start}|{row.version}|{row.dimensions}"


@pytest.fixture
def batch(registry: Registry) -> Callable[..., Batch]:
    """Messages of one topic as a batch that ends behind the last of each partition."""

    def make(
        sink: Sink, messages: Sequence[Message], ranges: Mapping[int, tuple[int, int]] | None = None
    ) -> Batch:
        spans: dict[int, Range] = {}
        for m in messages:
            first = spans.get(m.partition(), Range(start=m.offset(), end=0)).start
            spans[m.partition()] = Range(start=first, end=m.offset() + 1)
        spans |= {p: Range(start=a, end=b) for p, (a, b) in (ranges or {}).items()}
        return Batches("test", sink, registry).make(messages[0].topic(), messages, spans)

    return make


class Target:
    """One kind of sink, with what a test needs around it."""

    kind: str
    topic: str
    keyed = True

    def __init__(self, message: Make, batch: Callable[..., Batch], update: Any, key: Any) -> None:
        self._message, self._batch = message, batch
        self._update, self._key = update, key

    def sink(self, owner: str = "a") -> Sink:
        raise NotImplementedError

    def contents(self) -> dict[str, float]:
        """What a reader finds, by name."""
        raise NotImplementedError

    def lose_everything(self) -> None:
        raise NotImplementedError

    def fail(self, monkeypatch: pytest.MonkeyPatch, sink: Sink, *, before: bool) -> None:
        """The next write's decisive step raises: before it takes effect, or after."""
        raise NotImplementedError

    def batch(self, partition: int, start: int, *rows: tuple[str, float | None]) -> Batch:
        """Rows (None: a tombstone) at consecutive offsets."""
        messages = []
        for offset, (name, value) in enumerate(rows, start):
            row = self._update(name, value or 0.0)
            messages.append(
                self._message(
                    self.topic,
                    partition,
                    offset,
                    row if value is not None else None,
                    self._key(row),
                )
            )
        return self._batch(self.sink(), messages)


class Postgres(Target):
    kind, topic = "postgres", "metrics"

    def __init__(self, dsn: str, schema: str, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.dsn, self.schema = dsn, schema

    def sink(self, owner: str = "a") -> PostgresSink:
        return PostgresSink(self.dsn, self.schema, owner=owner)

    def contents(self) -> dict[str, float]:
        with psycopg.connect(self.dsn) as connection:
            query = f"SELECT dimensions->>'page', value FROM {self.schema}.metrics"
            return dict(connection.execute(query).fetchall())

    def lose_everything(self) -> None:
        with psycopg.connect(self.dsn) as connection:
            connection.execute(f"TRUNCATE {self.schema}.metrics, {self.schema}.sink_offsets")

    def fail(self, monkeypatch: pytest.MonkeyPatch, sink: Any, *, before: bool) -> None:
        real, moved = fence.move, []

        def move(connection: psycopg.Connection, *arguments: Any) -> bool:
            moved.append(real(connection, *arguments))
            return moved[-1]

        @contextmanager
        def torn() -> Iterator[psycopg.Connection]:
            with PostgresSink._transaction(sink) as connection:
                yield connection
                if moved and before:
                    monkeypatch.undo()
                    raise psycopg.OperationalError("the connection is gone")
            if moved:
                monkeypatch.undo()
                raise Retryable("the answer to the commit was lost")

        monkeypatch.setattr(fence, "move", move)
        monkeypatch.setattr(sink, "_transaction", torn)


class Redis(Target):
    kind, topic = "redis", "metrics"

    def __init__(self, url: str, namespace: str, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.url, self.namespace = url, namespace

    def sink(self, owner: str = "a") -> RedisSink:
        return RedisSink(self.url, self.namespace, owner=owner)

    @property
    def client(self) -> redis.Redis:
        return redis.Redis.from_url(self.url, decode_responses=True)

    def contents(self) -> dict[str, float]:
        found = {}
        with self.client as client:
            for key in client.scan_iter(f"{self.namespace}:{{metrics-*}}:page_views:*"):
                for field, value in client.hgetall(key).items():
                    found[json.loads(field)["page"]] = float(value)
        return found

    def lose_everything(self) -> None:
        with self.client as client:
            for key in client.scan_iter(f"{self.namespace}:*"):
                client.delete(key)

    def fail(self, monkeypatch: pytest.MonkeyPatch, sink: Any, *, before: bool) -> None:
        real = sink._script

        def torn(**arguments: Any) -> Any:
            sink._script = real
            if not before:
                real(**arguments)
            raise redis.exceptions.ConnectionError("the connection is gone")

        sink._script = torn


class Archive(Target):
    kind, topic, keyed = "archive", "events", False

    def __init__(self, folder: Path, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.folder = folder
        self.namespace = ""

    @property
    def events(self) -> Path:
        return self.folder / (self.namespace or "default") / "events"

    def sink(self, owner: str = "a") -> ArchiveSink:
        return ArchiveSink(self.folder, self.namespace)

    def batch(self, partition: int, start: int, *rows: tuple[str, float | None]) -> Batch:
        messages = [
            self._message(
                "events",
                partition,
                offset,
                PageView(user_id="u", page_url=name, timestamp=NOON, response_size_bytes=value),
                name,
            )
            for offset, (name, value) in enumerate(rows, start)
        ]
        return self._batch(self.sink(), messages)

    def contents(self) -> dict[str, float]:
        files = sorted(self.events.rglob("p*.parquet"))
        if not files:
            return {}
        try:
            rows = pl.concat([pl.read_parquet(file) for file in files])
        except FileNotFoundError:  # what is begun anew removes what there was
            return self.contents()
        rows = rows.sort("partition", "offset")
        assert not rows.select("partition", "offset").is_duplicated().any()
        return dict(rows.select("page_url", "response_size_bytes").rows())

    def lose_everything(self) -> None:
        shutil.rmtree(self.events)

    def fail(self, monkeypatch: pytest.MonkeyPatch, sink: Any, *, before: bool) -> None:
        real = Path.rename

        def torn(self: Path, target: Any) -> Path:
            monkeypatch.undo()
            if not before:
                real(self, target)
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(Path, "rename", torn)


@pytest.fixture
def pg(
    postgres: str, namespace: str, message: Make, batch: Any, update: Any, key_of: Any
) -> Iterator[Postgres]:
    schema = schema_name(namespace)
    migrate(postgres, schema)
    yield Postgres(postgres, schema, message, batch, update, key_of)
    with psycopg.connect(postgres) as connection:
        connection.execute(f"DROP SCHEMA {schema} CASCADE")


@pytest.fixture
def hot(
    redis_url: str, namespace: str, message: Make, batch: Any, update: Any, key_of: Any
) -> Redis:
    return Redis(redis_url, namespace, message, batch, update, key_of)


@pytest.fixture
def parquet(tmp_path: Path, message: Make, batch: Any, update: Any, key_of: Any) -> Archive:
    return Archive(tmp_path / "archive", message, batch, update, key_of)


@pytest.fixture(
    params=[
        pytest.param("pg", marks=pytest.mark.postgres),
        pytest.param("hot", marks=pytest.mark.redis),
        "parquet",
    ]
)
def target(request: pytest.FixtureRequest) -> Target:
    """Each kind of sink in turn."""
    found: Target = request.getfixturevalue(request.param)
    return found
