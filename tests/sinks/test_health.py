"""What an orchestrator is told."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest

from streamgauge.sinks.health import STALLED_SECONDS, HealthServer, Progress, Together


@pytest.fixture
def progress() -> Progress:
    return Progress("me")


@pytest.fixture
def server(progress: Progress) -> Iterator[HealthServer]:
    server = HealthServer(progress, 0, "127.0.0.1")
    yield server
    server.close()


def get(server: HealthServer, path: str) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=5) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def test_ready_follows_the_loop(progress: Progress, server: HealthServer) -> None:
    assert get(server, "/ready")[0] == 503
    progress.ready = True
    status, said = get(server, "/ready")
    assert (status, json.loads(said)) == (200, {"status": "ok", "instance": "me"})


def test_a_loop_that_stands_is_neither_live_nor_ready(
    progress: Progress, server: HealthServer
) -> None:
    progress.ready = True
    assert get(server, "/live")[0] == 200
    progress.turned_at = time.monotonic() - STALLED_SECONDS - 1
    assert get(server, "/live")[0] == 503
    assert get(server, "/ready")[0] == 503


def test_metrics_are_told_and_other_paths_are_not(server: HealthServer) -> None:
    status, said = get(server, "/metrics")
    assert (status, b"streamgauge_sink_rows" in said or b"python_info" in said) == (200, True)
    assert get(server, "/other")[0] == 404


def test_of_several_loops_all_must_turn_and_be_ready() -> None:
    one, other = Progress("me"), Progress("me")
    both = Together("me", (one, other))
    one.ready = True
    assert (both.live(), both.ready) == (True, False)
    other.ready = True
    assert both.ready
    other.turned_at = time.monotonic() - STALLED_SECONDS - 1
    assert not both.live()
