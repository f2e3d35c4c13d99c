"""Commands against a whole stack that runs: a file goes in, a probe is traced, all is verified."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.postgres, pytest.mark.redis]

LOG = (
    '8.8.8.8 - - [17/May/2026:10:05:01 +0000] "GET /a?x=1 HTTP/1.1" 200 10 "-" "agent"\n'
    "this is no line of a log\n"
    '8.8.8.8 - - [17/May/2026:10:05:02 +0000] "GET /a HTTP/1.1" 304 0 "-" "agent"\n'
    '9.9.9.9 - - [17/May/2026:11:00:00 +0000] "POST /b HTTP/1.1" 500 10 "-" "agent"\n'
)

Call = Callable[..., str]


@pytest.fixture(scope="module")
def call() -> Iterator[Call]:
    """Runs a command line in the folder of a stack that `up` has started."""
    env = {key: it for key, it in os.environ.items() if not key.startswith("STREAMGAUGE_")}
    command = [sys.executable, "-m", "streamgauge.cli"]
    with tempfile.TemporaryDirectory(prefix="streamgauge-test-") as folder:
        (Path(folder) / "access.log").write_text(LOG)
        up = subprocess.Popen(
            [*command, "up", "--json"], cwd=folder, env=env, stdout=subprocess.PIPE, text=True
        )
        assert up.stdout is not None

        def run(*line: str) -> str:
            done = subprocess.run(
                [*command, *line], cwd=folder, env=env, capture_output=True, text=True
            )
            assert done.returncode == 0, (line, done.stdout, done.stderr)
            return done.stdout

        try:
            assert json.loads(up.stdout.readline())["postgres"]
            yield run
            up.send_signal(signal.SIGTERM)
            assert up.wait(120) == 0
        finally:
            up.kill()


def test_a_log_a_probe_and_the_proof(call: Call) -> None:
    told = json.loads(call("produce", "--file", "access.log", "--format", "combined", "--json"))
    assert (told["read"], told["produced"], told["rejected"]) == (4, 3, 1)

    probe = json.loads(call("test", "--timeout", "120", "--json"))
    assert probe["ok"] is True
    assert list(probe["hops_ms"]) == ["producer", "worker", "topic", "postgres", "redis"]
    assert probe["hops_ms"]["producer"] < probe["hops_ms"]["postgres"]

    report = json.loads(call("verify", "--from-archive", "--json", "--timeout", "120"))
    assert (report["ok"], report["accepted"], report["different"]["redis"]) == (True, 4, 0)

    lines = call("metrics", "query", "page_views", "--where", "page=/a", "--json").splitlines()
    (row,) = map(json.loads, lines)
    assert (row["value"], row["window_start"]) == (2, "2026-05-17T10:00:00+00:00")
    (letter,) = map(json.loads, call("dlq", "list", "--json").splitlines())
    assert (letter["topic"], letter["offset"]) == ("file:access.log", 2)
    deadline = time.monotonic() + 180
    while True:  # ticks of idle partitions keep a few rows coming
        status = json.loads(call("status", "--json"))
        assert status["ok"] is True
        if status["lag"]["sink-postgres"] == 0:
            break
        assert time.monotonic() < deadline
