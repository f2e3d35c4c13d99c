"""examples/2-own-event: a type and a metric by a user, in under twenty lines, engine untouched."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from streamgauge.cli.verify.log import Log
from streamgauge.cli.verify.topics import Topics
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.registry import open_registry

EXAMPLE = Path(__file__).parents[2] / "examples" / "2-own-event"


def test_type_and_metric_are_under_twenty_lines():
    lines = (EXAMPLE / "donations.py").read_text() + (EXAMPLE / "metrics.yaml").read_text()
    assert len([line for line in lines.splitlines() if line.strip()]) < 20


@pytest.mark.kafka
def test_the_metric_is_computed_and_verified(kafka, namespace, registry_url, tmp_path):
    environment = {
        **os.environ,
        "STREAMGAUGE_KAFKA": kafka,
        "STREAMGAUGE_REGISTRY": registry_url,
        "STREAMGAUGE_NAMESPACE": namespace,
        "STREAMGAUGE_EVENT_MODULES": str(EXAMPLE / "donations.py"),
        "STREAMGAUGE_DEFINITIONS": str(EXAMPLE / "metrics.yaml"),
        "STREAMGAUGE_DIR": str(tmp_path),
    }

    def run(*arguments):
        command = [sys.executable, "-m", "streamgauge.cli", *arguments]
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, (arguments, done.stdout, done.stderr[-3000:])
        return done.stdout

    run("topics", "create")
    produced = run("produce", "--file", str(EXAMPLE / "donations.jsonl"), "--json")
    assert json.loads(produced.splitlines()[-1])["produced"] == 3
    run("worker", "--until-end")

    log = Log({"bootstrap.servers": kafka})
    cells, misnamed = Topics(log, Codec(open_registry(registry_url))).metrics(
        f"{namespace}.metrics"
    )
    log.close()
    assert not misnamed
    donated = {
        key.dimensions: cell.value
        for key, cell in cells.items()
        if key.metric == "donated" and key.window_size == "1h"
    }
    assert donated == {"{}": 120.0, '{"campaign":"trees"}': 20.0, '{"campaign":"wells"}': 100.0}
    run("verify", "--timeout", "120")
