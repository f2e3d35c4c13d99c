"""Servers and names the tests share: a real Kafka, Postgres and Redis, each started once."""

import os
import re
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer
from hypothesis import HealthCheck, settings

from streamgauge.cli.errors import MissingRequirementError
from streamgauge.cli.stack.kafka import LocalKafka
from streamgauge.cli.stack.postgres import LocalPostgres
from streamgauge.cli.stack.process import free_port
from streamgauge.cli.stack.redis import LocalRedis

settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("random", settings.get_profile("repeatable"), derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS", "repeatable"))
"""The same examples every time, however slow the machine; HYPOTHESIS=random looks for new ones."""

HOW_TO_GET_KAFKA = (
    "these tests need a real Apache Kafka: set KAFKA_BOOTSTRAP to the address of one, or install "
    "Java 17+ and Maven (it is then started here), or Docker"
)


NEEDS = {"kafka": "kafka", "postgres": "postgres", "redis_url": "redis"}
"""Marks by fixture: whoever asks for a server is marked as needing it."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture, mark in NEEDS.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(mark)


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Apache Kafka, shared by the whole run: use `namespace` in it."""
    if address := os.environ.get("KAFKA_BOOTSTRAP"):
        yield address
        return
    try:
        broker = LocalKafka(tmp_path_factory.mktemp("kafka"))
        broker.start()
    except MissingRequirementError as missing:
        yield from _kafka_in_docker(missing)
        return
    yield broker.bootstrap
    broker.kill()


@pytest.fixture(scope="session")
def broker() -> Iterator[str]:
    """A broker in this process (librdkafka's mock cluster): topics appear at their first use."""
    host = Producer({"bootstrap.servers": "unused", "test.mock.num.brokers": 1, "log_level": 0})
    (address,) = host.list_topics(timeout=60).brokers.values()
    yield f"{address.host}:{address.port}"
    host.flush(0)


@pytest.fixture
def server_dir() -> Iterator[Path]:
    """A folder for servers. As root Postgres runs as another user, whom pytest's own temporary
    folders shut out: each new run of pytest closes them to all others."""
    with tempfile.TemporaryDirectory(prefix="streamgauge-test-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The DSN of a real Postgres, shared by the whole run: use `namespace` in it."""
    if dsn := os.environ.get("POSTGRES_DSN"):
        yield dsn
        return
    with (
        tempfile.TemporaryDirectory(prefix="streamgauge-test-") as folder,
        LocalPostgres(Path(folder), durable=False) as server,
    ):
        yield server.dsn


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real Redis, shared by the whole run: use `namespace` in it."""
    if url := os.environ.get("REDIS_URL"):
        yield url
        return
    with LocalRedis(tmp_path_factory.mktemp("redis"), durable=False) as server:
        yield server.url


@pytest.fixture
def namespace(request: pytest.FixtureRequest) -> str:
    """A namespace of the test's own, named after it."""
    name = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[:20].rstrip("-")
    return f"t-{name}-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def registry_url(tmp_path: Path) -> str:
    """A schema registry of the test's own, in files."""
    return f"file:{tmp_path / 'registry'}"


def _kafka_in_docker(missing: MissingRequirementError) -> Iterator[str]:
    if (
        shutil.which("docker") is None
        or subprocess.run(["docker", "info"], capture_output=True).returncode
    ):
        pytest.fail(f"{HOW_TO_GET_KAFKA}\n({missing.message})")
    port = free_port()
    settings = {
        "KAFKA_NODE_ID": "1",
        "KAFKA_PROCESS_ROLES": "broker,controller",
        "KAFKA_LISTENERS": f"PLAINTEXT://:{port},CONTROLLER://:9093",
        "KAFKA_ADVERTISED_LISTENERS": f"PLAINTEXT://127.0.0.1:{port}",
        "KAFKA_CONTROLLER_LISTENER_NAMES": "CONTROLLER",
        "KAFKA_LISTENER_SECURITY_PROTOCOL_MAP": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": "1@localhost:9093",
        "KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR": "1",
        "KAFKA_TRANSACTION_STATE_LOG_MIN_ISR": "1",
        "KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS": "0",
        "KAFKA_NUM_PARTITIONS": "4",
    }
    command = ["docker", "run", "--rm", "-d", "-p", f"127.0.0.1:{port}:{port}"]
    command += [part for key, value in settings.items() for part in ("-e", f"{key}={value}")]
    started = subprocess.run([*command, "apache/kafka:4.1.0"], capture_output=True, text=True)
    if started.returncode:
        pytest.fail(f"{HOW_TO_GET_KAFKA}\n(docker: {started.stderr.strip()})")
    try:
        _await_kafka(f"127.0.0.1:{port}")
        yield f"127.0.0.1:{port}"
    finally:
        subprocess.run(["docker", "rm", "-f", started.stdout.strip()], capture_output=True)


def _await_kafka(address: str) -> None:
    from confluent_kafka.admin import AdminClient

    AdminClient({"bootstrap.servers": address, "log_level": 0}).list_topics(timeout=60)
