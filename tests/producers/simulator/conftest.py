"""Worlds to look at, each made once."""

from collections.abc import Callable
from itertools import islice
from typing import Any

import pytest

from streamgauge.producers.simulator.world import World

START = 1_760_000_400_000
DAY_MS = 86_400_000

Events = list[dict[str, Any]]


@pytest.fixture(scope="session")
def start() -> int:
    """The begin of every world here."""
    return START


@pytest.fixture(scope="session")
def make_world() -> Callable[..., World]:
    def make(events: int = 2000, days: float = 0.25, **settings: Any) -> World:
        settings = {"seed": 1, "start_ms": START, **settings}
        return World(end_ms=START + int(days * DAY_MS), events=events, **settings)

    return make


@pytest.fixture(scope="session")
def take(make_world: Callable[..., World]) -> Callable[..., Events]:
    """So many events of a new world."""

    def take(events: int = 2000, **settings: Any) -> Events:
        return list(islice(make_world(events, **settings).events(), events))

    return take


@pytest.fixture(scope="session")
def fortnight(take: Callable[..., Events]) -> Events:
    """Two weeks without anomalies: enough to measure the baselines on."""
    return take(150_000, days=14)
