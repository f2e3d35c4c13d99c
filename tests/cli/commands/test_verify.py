"""`verify`: what the flags become, and its exit code."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from streamgauge.cli.commands import verify as module
from streamgauge.cli.verify import Report, VerifyConfig

Run = Callable[..., Result]
WHERE = ("--kafka", "here:1", "--registry", "file:/r", "--namespace", "t-one")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []

    def one(config: VerifyConfig) -> Report:
        found.append(config)
        return Report(cut={}, source="events", different={"redis": 1})

    def two(a: VerifyConfig, b: VerifyConfig) -> Report:
        found.append((a.namespace, b.namespace))
        return Report(cut={}, source="both")

    monkeypatch.setattr(module, "recompute", one)
    monkeypatch.setattr(module, "compare_namespaces", two)
    return found


def test_a_difference_exits_1_and_is_told(run: Run, asked: list[Any]) -> None:
    flags = ("--from-archive", "--archive", "/a", "--events-topic", "events", "--closed-only")
    result = run("verify", *WHERE, *flags, "--redis", "redis://x", "--timeout", "5", exit_code=1)
    assert "DIFFERENT" in result.output
    assert asked == [
        VerifyConfig(
            kafka={"bootstrap.servers": "here:1"},
            registry="file:/r",
            namespace="t-one",
            redis="redis://x",
            archive=Path("/a"),
            events_topic="events",
            closed_only=True,
            timeout=5,
        )
    ]


def test_two_namespaces_are_compared(run: Run, asked: list[Any]) -> None:
    told = json.loads(run("verify", *WHERE, "--against", "t-two", "--json").output)
    assert told["ok"] is True
    assert asked == [("t-one", "t-two")]
