"""b7's application, in small: its figures are there, and every event arrived."""

import json
import subprocess
import sys
from pathlib import Path

from tests.producers.collector_double import CollectorDouble

ROOT = Path(__file__).parents[2]


def test_the_application_times_each_call_and_loses_nothing():
    double = CollectorDouble()
    settings = json.dumps({"endpoint": double.address, "write_key": "k"})
    command = [sys.executable, "-m", "bench.jobs.track", settings, "300", "2000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    double.close()
    assert told["delivered"] == 300
    assert len(double.events) == 1300
    assert 0 < told["median_us"] <= told["p99_us"]
