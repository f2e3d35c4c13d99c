"""The product's worker, killed at every named point of its work, and with a clock that jumps.

Each time `verify` recomputes everything from the raw topic and finds no difference.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streamgauge.cli.verify import VerifyConfig, verify
from streamgauge.producers import RecordProducer
from streamgauge.producers.simulator import Rates, Simulation, simulate
from streamgauge.schemas.events import PageView
from streamgauge.schemas.faultpoint import POINTS
from streamgauge.schemas.topics import create_topics
from tests.faults.sinking import until

pytestmark = [pytest.mark.kafka, pytest.mark.alone, pytest.mark.timeout(600)]

CLOCK = Path(__file__).with_name("clock")


class Pipeline:
    """Workers of one namespace."""

    def __init__(self, kafka: str, registry: str, namespace: str, folder: Path) -> None:
        self._where = {"kafka": kafka, "registry": registry, "namespace": namespace}
        self._folder = folder
        create_topics({"bootstrap.servers": kafka}, namespace)
        self.client = RecordProducer(**self._where)

    def start(self, *flags: str, **environment: str) -> subprocess.Popen:
        settings = {f"STREAMGAUGE_{name.upper()}": value for name, value in self._where.items()}
        settings["STREAMGAUGE_DIR"] = str(self._folder)
        with self.log.open("a") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "streamgauge.cli", "worker", *flags],
                env={**os.environ, **settings, **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def log(self) -> Path:
        return self._folder / "worker.log"

    def verify(self):
        return verify(
            VerifyConfig(
                kafka={"bootstrap.servers": self._where["kafka"]},
                registry=self._where["registry"],
                namespace=self._where["namespace"],
            )
        )


@pytest.fixture
def pipeline(kafka, registry_url, namespace, tmp_path):
    return Pipeline(kafka, registry_url, namespace, tmp_path)


def test_killed_at_every_point_of_its_work_the_worker_leaves_every_row_right(pipeline):
    points = [point for point in POINTS if not point.startswith("sink_")]
    rates = Rates(duplicates=0.01, late=0.01, broken=0.005)
    for seed, point in enumerate(points):
        sent = simulate(pipeline.client, Simulation(events=1500, seed=seed, rates=rates))
        assert (sent.acknowledged, sent.failed, sent.complete) == (1500, 0, True), sent
        flags = ["--batch-size", "400", "--checkpoint-interval", "1"]
        if point != "during_checkpoint":  # that one comes with time
            flags.append("--until-end")
        worker = pipeline.start(*flags, FAULTPOINT=f"{point}:1:kill")
        assert worker.wait(180) == -signal.SIGKILL, (point, pipeline.log.read_text()[-3000:])
    assert pipeline.start("--until-end").wait(180) == 0
    report = pipeline.verify()
    assert report.ok, report
    assert report.read - report.ticks == 1500 * len(points)


def test_a_wall_clock_that_jumps_a_day_either_way_makes_nothing_late(pipeline):
    #  clock   right  |a day ahead  |a day behind |right …
    #  events  20       20            20            20       between them ticks, by that clock
    worker = pipeline.start("--tick-after", "1", PYTHONPATH=str(CLOCK))
    until(lambda: "restored; reading" in pipeline.log.read_text())
    for round_ in range(4):
        for number in range(20):
            pipeline.client.send_event(PageView(user_id=f"u{number}", page_url=f"/{round_}"))
        pipeline.client.flush()
        time.sleep(3)
    try:
        until(lambda: (report := pipeline.verify()).ticks or not report.ok)
        report = pipeline.verify()
    finally:
        worker.terminate()
        assert worker.wait(120) == 0
    assert report.ok, report
    assert report.ticks > 0
    assert (report.accepted, report.late) == (80, 0)
