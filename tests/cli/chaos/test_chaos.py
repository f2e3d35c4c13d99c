"""A short run of the whole thing: faults of several kinds, all invariants, and the report."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from streamgauge.cli import main

ONLY = "kill,bounce,commit-loss,network,postgres,redis-loss"


@pytest.mark.kafka
@pytest.mark.postgres
@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(900)
def test_nothing_is_lost_or_doubled_in_a_short_run(server_dir: Path) -> None:
    line = [sys.executable, "-m", "streamgauge.cli", "chaos", "--events", "15000", "--rate", "1000"]
    line += ["--seed", "3", "--only", ONLY, "--report", str(server_dir / "report"), "--json"]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told == json.loads((server_dir / "report" / "report.json").read_text())
    assert told["ok"]
    assert {one["name"] for one in told["invariants"]} == {f"I{n}" for n in range(1, 8)}
    assert {one["kind"] for one in told["schedule"]} == set(ONLY.split(","))
    assert told["figures"]["events"] == 15_000
    assert told["figures"]["rows_seen_by_the_reader"] > 15_000
    report = (server_dir / "report" / "report.md").read_text()
    assert "--seed 3 --only kill,bounce" in report
    assert re.search(r"\| bounce kafka: SIG\w+ \| ended within", report)
    assert not (server_dir / "report" / "kafka" / "data").exists()


def test_an_unknown_fault_is_wrong_usage() -> None:
    done = CliRunner().invoke(main, ["chaos", "--only", "kill,flood"])
    assert done.exit_code == 2
    assert "no fault 'flood'; there are kill, bounce" in done.output
