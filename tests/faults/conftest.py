"""The counting app and sinks, on servers that tests share; and a broker that may be broken."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamgauge.cli.errors import MissingRequirementError
from streamgauge.cli.stack.kafka import LocalKafka
from streamgauge.cli.stack.process import free_port
from streamgauge.cli.stack.proxy import KafkaProxy
from tests.faults.sinking import PLANTED, Sinking
from tests.streams.engine.counting import Counting


class ProxiedKafka(LocalKafka):
    """With a second listener, whose clients go through `proxy`."""

    def __init__(self, data_dir: Path) -> None:
        super().__init__(data_dir, heap="512m")
        self._behind = free_port()
        self.proxy = KafkaProxy("127.0.0.1", self._behind)

    def _settings(self) -> dict[str, str]:
        ours = super()._settings()
        return ours | {
            "listeners": f"{ours['listeners']},PROXIED://127.0.0.1:{self._behind}",
            "advertised.listeners": f"{ours['advertised.listeners']},PROXIED://{self.proxy.address}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,"
            "CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "transaction.abort.timed.out.transaction.cleanup.interval.ms": "2000",
        }


@pytest.fixture(scope="session")
def broker(tmp_path_factory) -> Iterator[ProxiedKafka]:
    """A Kafka of these tests' own, which they may break."""
    server = ProxiedKafka(tmp_path_factory.mktemp("broker"))
    try:
        server.start()
    except MissingRequirementError as missing:
        pytest.skip(f"breaking a broker needs one of our own: {missing.message}")
    with server.proxy:
        yield server
    server.kill()


@pytest.fixture
def proxy(broker) -> Iterator[KafkaProxy]:
    """What lies between the workers of `proxied` and their broker; whole again at the end."""
    yield broker.proxy
    broker.proxy.clear()


@pytest.fixture
def counting_with(kafka, namespace, tmp_path) -> Iterator[Callable[[str], Counting]]:
    """The counting app on the shared broker, with a bug of `planted.py` or `none`."""
    made: list[Counting] = []

    def make(bug: str) -> Counting:
        logs = tmp_path / bug
        logs.mkdir()
        program = (PLANTED, bug, "app")
        made.append(Counting(kafka, f"{namespace}-{len(made)}", logs, program=program))
        return made[-1]

    yield make
    for harness in made:
        harness.close()


@pytest.fixture
def counting(counting_with) -> Counting:
    """The counting app on the shared broker."""
    return counting_with("none")


@pytest.fixture
def proxied(broker, proxy, namespace, tmp_path) -> Iterator[Counting]:
    """The counting app, with a proxy between its workers and the broker, and none for readers."""
    harness = Counting(broker.bootstrap, namespace, tmp_path)
    harness.brokers = proxy.address
    yield harness
    harness.close()


@pytest.fixture
def sinking(request, kafka, namespace, registry_url, tmp_path) -> Iterator[Callable[..., Sinking]]:
    """A sink by its kind, on the shared target unless told of another."""
    made: list[Sinking] = []

    def make(kind: str, target: str | None = None) -> Sinking:
        if kind == "archive":
            target = target or str(tmp_path / "archive")
        server = {"postgres": "postgres", "redis": "redis_url"}
        logs = tmp_path / f"sinks-{len(made)}"
        logs.mkdir()
        made.append(
            Sinking(
                kind,
                kafka=kafka,
                registry=registry_url,
                namespace=f"{namespace}-{len(made)}",
                target=target or request.getfixturevalue(server[kind]),
                logs=logs,
            )
        )
        return made[-1]

    yield make
    for each in made:
        each.close()
