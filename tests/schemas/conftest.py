"""Messages without a broker, and registries of every kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from streamgauge.schemas.registry import Registry, open_registry


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


@pytest.fixture(params=["file", "mock"])
def make_registry(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[], Registry]]:
    """Opens the same registry each time, of each kind."""
    url = f"file:{tmp_path / 'shared'}" if request.param == "file" else f"mock://{uuid4()}"
    yield lambda: open_registry(url)
