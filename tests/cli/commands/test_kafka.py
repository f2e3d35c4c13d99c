"""`kafka`: started once, found again, stopped."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

from streamgauge.cli.commands import kafka as module
from streamgauge.cli.stack.lag import Broker

Run = Callable[..., Result]


@pytest.mark.kafka
def test_it_is_started_once_found_again_and_stopped(run: Run) -> None:
    told = json.loads(run("kafka", "start", "--json").output)
    try:
        assert Broker(told["kafka"]).cluster()
        assert run("kafka", "start").output == told["kafka"] + "\n"
    finally:
        assert "stopped" in run("kafka", "stop").output
    assert "no Kafka runs in" in run("kafka", "stop").output


def test_one_that_does_not_stop_is_told(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STOP_SECONDS", 0.1)
    monkeypatch.setattr(module, "running", lambda folder: (4_000_000, "here:1"))
    monkeypatch.setattr(module.os, "kill", lambda *_: None)
    assert "process 4000000 does not stop" in run("kafka", "stop", exit_code=1).output
    assert Path(".streamgauge").exists() is False
