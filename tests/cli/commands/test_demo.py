"""The demo from end to end on the embedded stack, and what it refuses."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

Run = Callable[..., Result]

LINE = '8.8.8.{} - - [17/May/2026:10:{:02}:01 +0000] "GET /{} HTTP/1.1" 200 10 "-" "agent"\n'


@pytest.fixture
def demo(server_dir: Path) -> Callable[..., subprocess.Popen[str]]:
    """Starts a demo in a folder of its own."""

    def start(*flags: str) -> subprocess.Popen[str]:
        env = {key: it for key, it in os.environ.items() if not key.startswith("STREAMGAUGE_")}
        command = [sys.executable, "-m", "streamgauge.cli", "demo", "--json", *flags]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=server_dir, env=env, stdout=pipe, stderr=pipe, text=True
        )

    return start


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, err[-3000:]
    found: dict[str, Any] = json.loads(out.splitlines()[-1])
    assert found["verified"] is True
    assert found["read"] == found["produced"] + found["rejected_at_source"]
    assert found["produced"] == (
        found["processed"] + found["duplicates"] + found["late"] + found["rejected_downstream"]
    )
    assert found["postgres_rows"] > 0
    assert found["redis_keys"] > 0
    return found


@pytest.mark.postgres
@pytest.mark.redis
def test_simulated_events_are_all_accounted_for(
    demo: Callable[..., subprocess.Popen[str]],
) -> None:
    found = result(demo("--events", "4000", "--seed", "7", "--broken", "0.01"))
    assert found["read"] == 4000
    assert min(found["duplicates"], found["late"], found["rejected_downstream"]) > 0


@pytest.mark.postgres
@pytest.mark.redis
def test_a_log_is_accounted_for_line_by_line(
    demo: Callable[..., subprocess.Popen[str]], server_dir: Path
) -> None:
    log = "".join(LINE.format(n % 9, n % 60, n % 7) for n in range(300)) + "no line\n"
    (server_dir / "access.log").write_text(log)
    found = result(demo("--from", "access.log", "--format", "combined"))
    assert (found["read"], found["processed"], found["rejected_at_source"]) == (301, 300, 1)


@pytest.mark.postgres
@pytest.mark.redis
def test_ctrl_c_ends_a_live_demo_in_order(demo: Callable[..., subprocess.Popen[str]]) -> None:
    live = demo("--rate", "200")
    assert live.stderr is not None
    assert "sent" in live.stderr.readline()
    live.send_signal(signal.SIGINT)
    _, err = live.communicate(timeout=240)
    assert (live.returncode, "stopped" in err) == (0, True)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--events", "5", "--from", "x"), "not both"),
        (("--from", "missing.log"), "there is no file missing.log"),
        (("--late", "2"), "late must be between"),
        (("--kafka", "local", "--namespace", "UP"), "--namespace: a letter"),
    ],
)
def test_what_cannot_be_is_wrong_usage(run: Run, flags: tuple[str, ...], told: str) -> None:
    assert told in run("demo", *flags, exit_code=2).output
