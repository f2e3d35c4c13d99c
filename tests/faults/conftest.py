"""The counting app and sinks, on servers that tests share."""

from collections.abc import Callable, Iterator

import pytest

from tests.faults.sinking import PLANTED, Sinking
from tests.streams.engine.counting import Counting


@pytest.fixture
def counting(kafka, namespace, tmp_path) -> Iterator[Counting]:
    """The counting app; `plant` puts a bug into it."""
    harness = Counting(kafka, namespace, tmp_path, program=(PLANTED, "none", "app"))
    yield harness
    harness.close()


@pytest.fixture
def sinking(request, kafka, namespace, registry_url, tmp_path) -> Iterator[Callable[..., Sinking]]:
    """A sink by its kind, on the shared target unless told of another."""
    made: list[Sinking] = []

    def make(kind: str, target: str | None = None) -> Sinking:
        server = "postgres" if kind == "postgres" else "redis_url"
        made.append(
            Sinking(
                kind,
                kafka=kafka,
                registry=registry_url,
                namespace=namespace,
                target=target or request.getfixturevalue(server),
                logs=tmp_path,
            )
        )
        return made[-1]

    yield make
    for each in made:
        each.close()
