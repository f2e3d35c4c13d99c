"""Messages without a broker, and registries of every kind."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from streamgauge.schemas.registry import Registry, open_registry
from tests.registry_server import RegistryServer


@dataclass(frozen=True)
class FakeMessage:
    """What the decoder asks of a confluent_kafka.Message."""

    data: bytes | None
    at: tuple[int, int] = (0, 0)
    appended: int = 1_700_000_000_000
    record_key: bytes | None = b"key"

    def value(self) -> bytes | None:
        return self.data

    def key(self) -> bytes | None:
        return self.record_key

    def topic(self) -> str:
        return "fake"

    def partition(self) -> int:
        return self.at[0]

    def offset(self) -> int:
        return self.at[1]

    def timestamp(self) -> tuple[int, int]:
        return (2, self.appended)


@pytest.fixture(scope="session")
def message() -> type[FakeMessage]:
    return FakeMessage


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return open_registry(f"file:{tmp_path / 'registry'}")


@pytest.fixture
def registry_server() -> Iterator[RegistryServer]:
    with RegistryServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()


@pytest.fixture(params=["file", "mock", "http"])
def make_registry(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Registry]:
    """Opens the same registry each time, of each kind."""
    urls = {"file": f"file:{tmp_path / 'shared'}", "mock": f"mock://{uuid4()}"}
    url = urls.get(request.param) or request.getfixturevalue("registry_server").url
    return lambda: open_registry(url)
