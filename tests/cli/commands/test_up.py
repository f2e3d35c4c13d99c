"""`up`: its first line, the commands that find it, and its end."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.postgres, pytest.mark.redis]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_its_addresses_first_and_ends_in_order(
    server_dir: Path, number: signal.Signals, request: pytest.FixtureRequest
) -> None:
    command = [sys.executable, "-m", "streamgauge.cli"]
    env = {key: it for key, it in os.environ.items() if not key.startswith("STREAMGAUGE_")}
    up = subprocess.Popen(
        [*command, "up", "--json"], cwd=server_dir, env=env, stdout=subprocess.PIPE, text=True
    )
    request.addfinalizer(up.kill)
    assert up.stdout is not None
    told = json.loads(up.stdout.readline())
    assert set(told) >= {"kafka", "postgres", "redis", "registry", "dir"}
    found = subprocess.run(
        [*command, "status", "--json"], cwd=server_dir, env=env, capture_output=True, text=True
    )
    assert json.loads(found.stdout)["stack"] == told["dir"]
    up.send_signal(number)
    assert up.wait(120) == 0
    assert not (server_dir / ".streamgauge" / "stack.json").exists()
