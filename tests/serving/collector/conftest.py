"""A collector in a thread on a broker in this process (librdkafka's mock cluster)."""

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from streamgauge.cli.stack.process import free_port, spawn
from streamgauge.cli.stack.supervisor import streamgauge
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.registry import open_registry
from streamgauge.serving.collector.app import Collector
from streamgauge.serving.collector.server import Server, listen
from streamgauge.serving.collector.settings import CollectorConfig

NOW = 1_767_225_600_000
DEADLINE = 120.0
PROCESS_DEADLINE = 120.0
SPOOL = "streamgauge_collector_spool_records "


class Running:
    """A collector that serves until it is closed."""

    def __init__(self, config: CollectorConfig) -> None:
        if not config.kafka.endswith(":1"):
            make_topics(config)
        self.collector = Collector(config, on_fatal=self.stop)
        self.collector.prepare()
        self._server = Server(self.collector)
        socket = listen("127.0.0.1", 0, shared=False)
        self.port = socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.run, args=([socket],), daemon=True)
        self._thread.start()
        deadline = time.monotonic() + DEADLINE
        while not self._server.started and self._thread.is_alive():
            assert time.monotonic() < deadline, "the collector does not start"
            time.sleep(0.01)
        assert self._server.started, "the collector did not start: see the log"
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=DEADLINE)

    def stop(self) -> None:
        self._server.should_exit = True

    def close(self) -> None:
        self.http.close()
        self.stop()
        self._thread.join(DEADLINE)
        assert not self._thread.is_alive()


class Collectors:
    """A collector process that can be killed and started again."""

    def __init__(self, config: CollectorConfig, folder: Path) -> None:
        self.config, self._folder = config, folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self._folder / "collect.log"

    def start(self, *more: str) -> None:
        flags = ["--kafka", self.config.kafka, "--registry", self.config.registry]
        flags += ["--namespace", self.config.namespace, "--port", str(self.port)]
        flags += ["--spool", str(self._folder / "spool"), "--ack-timeout", "2"]
        flags += ["--dir", str(self._folder), *more]
        self._process = spawn(streamgauge("collect", *flags), log=self.log)
        deadline = time.monotonic() + PROCESS_DEADLINE
        while not self._ready():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def end(self, number: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(number)
        return self._process.wait(PROCESS_DEADLINE)

    def waiting(self) -> float:
        """Records in the spool, as /metrics says."""
        text = httpx.get(f"{self.url}/metrics").text
        (line,) = [one for one in text.splitlines() if one.startswith(SPOOL)]
        return float(line.split()[-1])

    @property
    def memory(self) -> int:
        """Resident bytes."""
        assert self._process is not None
        return int(psutil.Process(self._process.pid).memory_info().rss)

    def _ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/ready").status_code == 200
        except httpx.TransportError:
            return False


@pytest.fixture(scope="module")
def registry_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry")


@pytest.fixture
def config(broker: str, registry_folder: Path, namespace: str) -> CollectorConfig:
    return CollectorConfig(
        kafka=broker, registry=f"file:{registry_folder}", namespace=namespace, ack_seconds=10
    )


@pytest.fixture
def start(config: CollectorConfig) -> Iterator[Callable[..., Running]]:
    """Starts a collector with some of the settings changed."""
    started: list[Running] = []

    def begin(**changes: Any) -> Running:
        started.append(Running(replace(config, **changes)))
        return started[-1]

    yield begin
    for each in started:
        each.close()


@pytest.fixture
def topic(config: CollectorConfig) -> Callable[[str], list[dict[str, Any]]]:
    """The records of a topic (its name without the namespace), decoded."""

    def records(name: str) -> list[dict[str, Any]]:
        codec = Codec(open_registry(config.registry))
        return [codec.decode(value).record for value in read(config, name)]

    return records


def make_topics(config: CollectorConfig) -> None:
    """On the mock cluster a topic comes into being when asked for."""
    admin = AdminClient({"bootstrap.servers": config.kafka, "log_level": 0})
    for name in ("events", "dead-letters", "actions"):
        admin.list_topics(f"{config.namespace}.{name}", 10)


def read(config: CollectorConfig, name: str) -> list[bytes]:
    consumer = Consumer(
        {
            "bootstrap.servers": config.kafka,
            "group.id": "unused",
            "enable.auto.commit": False,
            "fetch.wait.max.ms": 10,
            "log_level": 0,
        }
    )
    topic = f"{config.namespace}.{name}"
    partitions = list(consumer.list_topics(topic, 10).topics[topic].partitions)
    ends = [consumer.get_watermark_offsets(TopicPartition(topic, p), 10)[1] for p in partitions]
    consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in partitions])
    found: list[bytes] = []
    deadline = time.monotonic() + DEADLINE
    while len(found) < sum(ends):
        assert time.monotonic() < deadline, f"{len(found)} of {sum(ends)} records"
        found += [message.value() or b"" for message in consumer.consume(10_000, 0.2)]
    consumer.close()
    return found


@pytest.fixture(scope="module")
def shared(broker: str, registry_folder: Path) -> Iterator[Running]:
    """One collector for all tests that leave it as it is."""
    running = Running(
        CollectorConfig(kafka=broker, registry=f"file:{registry_folder}", namespace="shared")
    )
    yield running
    running.close()
