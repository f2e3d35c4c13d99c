"""The whole way from a real Kafka into each target, with processes that are killed on it."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from streamgauge.cli.stack.embedded import EmbeddedKafka
from streamgauge.cli.stack.postgres import LocalPostgres
from streamgauge.cli.stack.process import free_port
from streamgauge.cli.stack.redis import LocalRedis
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.events import PageView
from streamgauge.schemas.topics import create_topics, qualified
from streamgauge.sinks.archive import coverage
from streamgauge.sinks.runner import SinkConfig, run

pytestmark = pytest.mark.kafka


@pytest.fixture
def feed(kafka: str, namespace: str, registry: Any, update: Any, key_of: Any) -> Iterator["Feed"]:
    create_topics({"bootstrap.servers": kafka}, namespace)
    yield Feed(kafka, namespace, Codec(registry), update, key_of)


class Feed:
    """Writes what a worker writes, in transactions."""

    def __init__(self, kafka: str, namespace: str, codec: Codec, update: Any, key: Any) -> None:
        self.kafka, self.namespace = kafka, namespace
        self._codec, self._update, self._key = codec, update, key
        self._producer = Producer(
            {"bootstrap.servers": kafka, "transactional.id": f"{namespace}-feed", "linger.ms": 5}
        )
        self._producer.init_transactions(30)

    def begin(self) -> None:
        self._producer.begin_transaction()

    def send(self, topic: str, key: str, value: bytes | None, partition: int | None = None) -> None:
        place = {} if partition is None else {"partition": partition}
        self._producer.produce(qualified(self.namespace, topic), value, key.encode(), **place)
        self._producer.poll(0)

    def metric(self, name: str, value: float | None) -> None:
        row = self._update(name, value or 0.0)
        self.send(
            "metrics", self._key(row), None if value is None else self._codec.encode("metrics", row)
        )

    def event(self, name: str, value: int) -> None:
        event = PageView(
            user_id=name,
            page_url=name,
            timestamp=int(time.time() * 1000),
            response_size_bytes=value,
        )
        self.send("events", name, self._codec.encode("events", event))

    def row(self, kind: str, name: str, value: int) -> None:
        """A row that the sink in question brings to its target."""
        if kind == "archive":
            self.event(name, value)
        else:
            self.metric(name, value)

    def commit(self) -> None:
        self._producer.commit_transaction(30)

    def abort(self) -> None:
        self._producer.flush(30)
        self._producer.abort_transaction(30)


@pytest.fixture
def settings(
    request: pytest.FixtureRequest, kafka: str, namespace: str, registry_url: str
) -> Callable[..., dict[str, Any]]:
    def make(kind: str, **more: Any) -> dict[str, Any]:
        target = {
            "postgres": lambda: request.getfixturevalue("postgres"),
            "redis": lambda: request.getfixturevalue("redis_url"),
            "archive": lambda: str(request.getfixturevalue("tmp_path") / "archive"),
        }[kind]
        return {
            "kind": kind,
            "kafka": {"bootstrap.servers": kafka, "session.timeout.ms": 6000},
            "registry": registry_url,
            "target": target() if "target" not in more else more["target"],
            "namespace": namespace,
            "interval": 0.1,
        } | more

    return make


class Running:
    """A sink in a thread of this process."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.stop = threading.Event()
        self.code: int | None = None
        self._thread = threading.Thread(target=self._run, args=[SinkConfig(**settings)])
        self._thread.start()

    def _run(self, config: SinkConfig) -> None:
        self.code = run(config, self.stop)

    def end(self) -> int | None:
        self.stop.set()
        self._thread.join(120)
        return self.code


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def begin(settings: dict[str, Any]) -> Running:
        started.append(Running(settings))
        return started[-1]

    yield begin
    for each in started:
        each.end()


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """A sink in a process of its own."""
    started: list[subprocess.Popen[bytes]] = []
    code = (
        "import json, logging, sys; logging.basicConfig(level='INFO');"
        "from streamgauge.sinks.runner import SinkConfig, run;"
        "sys.exit(run(SinkConfig(**json.loads(sys.argv[1]))))"
    )

    def begin(settings: dict[str, Any]) -> subprocess.Popen[bytes]:
        out = (tmp_path / f"sink-{len(started)}.log").open("wb")
        started.append(
            subprocess.Popen([sys.executable, "-c", code, json.dumps(settings)], stderr=out)
        )
        return started[-1]

    yield begin
    for each in started:
        each.kill()
        each.wait()


@pytest.fixture
def until() -> Callable[..., None]:
    def wait(what: Callable[[], Any], seconds: float = 120.0) -> None:
        deadline = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < deadline, "it did not happen in time"
            time.sleep(0.05)

    return wait


def contents(request: pytest.FixtureRequest, kind: str) -> Any:
    name = {"postgres": "pg", "redis": "hot", "archive": "parquet"}[kind]
    target = request.getfixturevalue(name)
    target.namespace = request.getfixturevalue("namespace")
    return target


KINDS = ["postgres", "redis", "archive"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_committed_arrives_and_nothing_else(
    kind: str, request: Any, feed: Feed, settings: Any, start: Any, until: Any
) -> None:
    target = contents(request, kind)
    running = start(settings(kind))
    feed.begin()
    for i in range(50):
        feed.row(kind, f"n{i}", i)
    feed.commit()
    feed.begin()
    feed.row(kind, "aborted", 1)
    feed.abort()
    expected = {f"n{i}": float(i) for i in range(50)}
    until(lambda: target.contents() == expected)
    assert running.end() == 0
    assert target.contents() == expected


def test_markers_count_as_read(
    feed: Feed, settings: Any, start: Any, until: Any, pg: Any, kafka: str, namespace: str
) -> None:
    start(settings("postgres"))
    feed.begin()
    feed.send("metrics", "k", None, partition=0)
    feed.commit()

    def position() -> int | None:
        with psycopg.connect(pg.dsn) as connection:
            query = f"SELECT next_offset FROM {pg.schema}.sink_offsets WHERE topic = %s"
            row = connection.execute(query + " AND partition = 0", ["metrics"]).fetchone()
            return row[0] if row else None

    until(lambda: position() == 2)  # the tombstone at 0, the marker at 1


def test_committed_offsets_show_the_lag(
    feed: Feed, settings: Any, start: Any, until: Any, hot: Any, kafka: str, namespace: str
) -> None:
    running = start(settings("redis"))
    feed.begin()
    feed.metric("a", 1)
    feed.commit()
    until(lambda: hot.contents() == {"a": 1.0})
    running.end()
    group = qualified(namespace, "streamgauge-sink-redis")
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": group})
    partitions = [TopicPartition(qualified(namespace, "metrics"), p) for p in range(4)]
    assert sum(max(0, one.offset) for one in consumer.committed(partitions, timeout=60)) >= 1
    consumer.close()


@pytest.mark.parametrize("kind", KINDS)
def test_killed_in_the_middle_it_loses_nothing_and_doubles_nothing(
    kind: str, request: Any, feed: Feed, settings: Any, spawn: Any, until: Any
) -> None:
    target = contents(request, kind)
    feed.begin()
    for i in range(20_000):
        feed.row(kind, f"n{i % 3000 if kind != 'archive' else i}", i)
    feed.commit()
    expected = (
        {f"n{i}": float(i) for i in range(20_000)}
        if kind == "archive"
        else {f"n{i % 3000}": float(i) for i in range(20_000)}
    )
    # Small writes, so that a kill falls between and into many of them.
    slow = settings(kind, batch_rows=25, interval=0.01)
    for _ in range(2):
        process = spawn(slow)
        before = target.contents()
        until(lambda before=before: target.contents() != before)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert target.contents() != expected
    port = free_port()
    last = spawn(settings(kind, http_port=port))
    until(lambda: target.contents() == expected and ready(port))
    last.send_signal(signal.SIGTERM)
    assert last.wait(60) == 0
    assert target.contents() == expected


@pytest.mark.parametrize("kind", ["postgres", "redis"])
def test_an_outage_of_the_target_pauses_and_is_told_once(
    kind: str,
    feed: Feed,
    settings: Any,
    start: Any,
    until: Any,
    request: Any,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    target = contents(request, kind)
    server: Any = (LocalPostgres if kind == "postgres" else LocalRedis)(tmp_path / "server")
    server.start()
    address = server.dsn if kind == "postgres" else server.url
    if kind == "postgres":
        target.dsn = address
    else:
        target.url = address
    port = free_port()
    try:
        start(settings(kind, target=address, http_port=port))
        feed.begin()
        feed.metric("a", 1)
        feed.commit()
        until(lambda: ready(port) and target.contents() == {"a": 1.0})
        caplog.clear()
        server.kill()
        feed.begin()
        feed.metric("a", 2)
        feed.metric("b", 2)
        feed.commit()
        until(lambda: not ready(port))
        time.sleep(1.5)
        server.start()
        until(lambda: target.contents() == {"a": 2.0, "b": 2.0})
        until(lambda: ready(port))
        said = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
        assert len([text for text in said if "pauses" in text]) == 1
        assert len([text for text in said if "goes on" in text]) == 1
        assert get(port, "/live") == 200
        assert b"streamgauge_sink_retries_total" in body(port, "/metrics")
        assert get(port, "/elsewhere") == 404
    finally:
        server.stop()


def test_a_redis_that_lost_everything_is_rebuilt_while_nothing_new_comes(
    feed: Feed, settings: Any, start: Any, until: Any, hot: Any
) -> None:
    start(settings("redis"))
    feed.begin()
    feed.metric("a", 1)
    feed.metric("b", 2)
    feed.commit()
    until(lambda: hot.contents() == {"a": 1.0, "b": 2.0})
    hot.lose_everything()
    until(lambda: hot.contents() == {"a": 1.0, "b": 2.0})


def test_a_stopped_process_comes_back_fenced_and_joins_again(
    feed: Feed, settings: Any, spawn: Any, until: Any, pg: Any, tmp_path: Path
) -> None:
    zombie = spawn(settings("postgres", instance="zombie"))
    feed.begin()
    feed.metric("a", 1)
    feed.commit()
    until(lambda: pg.contents() == {"a": 1.0})
    os.kill(zombie.pid, signal.SIGSTOP)
    spawn(settings("postgres", instance="owner"))
    feed.begin()
    feed.metric("a", 2)
    feed.commit()
    until(lambda: pg.contents() == {"a": 2.0})
    os.kill(zombie.pid, signal.SIGCONT)
    feed.begin()
    feed.metric("b", 3)
    feed.commit()
    until(lambda: pg.contents() == {"a": 2.0, "b": 3.0})
    assert zombie.poll() is None


def test_records_that_cannot_be_decoded_are_told_and_passed(
    feed: Feed, settings: Any, start: Any, until: Any, pg: Any, caplog: pytest.LogCaptureFixture
) -> None:
    start(settings("postgres"))
    feed.begin()
    feed.send("metrics", "1m|0|x|{}", b"garbage")
    feed.metric("a", 1)
    feed.commit()
    until(lambda: pg.contents() == {"a": 1.0})
    assert "cannot be decoded and are left out" in caplog.text


def test_a_wrong_address_of_the_target_ends_it_with_the_reason(
    settings: Any, feed: Feed, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    stop = threading.Event()
    assert run(SinkConfig(**settings("archive", target=str(tmp_path / "file"))), stop) == 1
    assert "give another folder" in caplog.text


def test_what_retention_took_is_told_and_passed(
    feed: Feed, settings: Any, start: Any, until: Any, parquet: Any, namespace: str, kafka: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    # a, marker | a, marker: deleted unread | a
    parquet.namespace = namespace
    running = start(settings("archive"))
    feed.begin()
    feed.event("a", 1)
    feed.commit()
    until(lambda: parquet.contents() == {"a": 1.0})
    running.end()
    for value in (2, 3):
        feed.begin()
        feed.event("a", value)
        feed.commit()
    ((partition, read),) = coverage(parquet.events).items()
    cut = TopicPartition(qualified(namespace, "events"), partition, 4)
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.delete_records([cut])[cut].result(30)
    start(settings("archive"))
    until(lambda: parquet.contents() == {"a": 3.0})
    assert f"offsets {read} to 3 were deleted unread" in caplog.text
    assert coverage(parquet.events) == {partition: read}


def test_a_log_that_is_shorter_than_what_was_written_is_not_read_on(
    feed: Feed, settings: Any, start: Any, until: Any, pg: Any, caplog: pytest.LogCaptureFixture
) -> None:
    running = start(settings("postgres"))
    feed.begin()
    feed.metric("a", 1)
    feed.commit()
    until(lambda: pg.contents() == {"a": 1.0})
    running.end()
    with psycopg.connect(pg.dsn) as connection:
        connection.execute(
            f"UPDATE {pg.schema}.sink_offsets SET next_offset = 99 WHERE topic = 'metrics'"
        )
    port = free_port()
    start(settings("postgres", http_port=port))
    until(lambda: "the log was cut" in caplog.text)
    assert not ready(port)


def test_a_sink_started_before_its_topics_finds_them(
    kafka: str, namespace: str, settings: Any, start: Any, until: Any, hot: Any, request: Any
) -> None:
    start(settings("redis"))
    time.sleep(1)
    feed = request.getfixturevalue("feed")
    feed.begin()
    feed.metric("a", 1)
    feed.commit()
    until(lambda: hot.contents() == {"a": 1.0})


@pytest.mark.parametrize("kind", KINDS)
def test_it_works_on_the_embedded_broker_and_begins_anew_with_it(
    kind: str,
    request: Any,
    tmp_path: Path,
    registry: Any,
    update: Any,
    key_of: Any,
    settings: Any,
    start: Any,
    until: Any,
    namespace: str,
) -> None:
    target = contents(request, kind)
    for round_, expected in enumerate([{"a": 1.0, "b": 2.0}, {"a": 5.0}]):
        with EmbeddedKafka(tmp_path / f"broker-{round_}") as broker:
            conf = {"bootstrap.servers": broker.bootstrap}
            create_topics(conf, namespace, embedded=True)
            feed = Feed(broker.bootstrap, namespace, Codec(registry), update, key_of)
            running = start(settings(kind, kafka=conf))
            feed.begin()
            for name, value in expected.items():
                feed.row(kind, name, int(value))
            feed.commit()
            until(lambda expected=expected: expected.items() <= target.contents().items())
            assert running.end() == 0


def ready(port: int) -> bool:
    return get(port, "/ready") == 200


def get(port: int, path: str) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def body(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
        return bytes(answer.read())
