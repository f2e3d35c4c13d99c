"""`worker`, `sink` and their like: what the flags become."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from streamgauge.cli.commands import worker as module
from streamgauge.sinks import runner
from streamgauge.streams import worker as streams

Run = Callable[..., Result]
WHERE = ("--kafka", "here:1", "--registry", "file:/tmp/registry")


@pytest.fixture
def configs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []

    def take(config: Any) -> int:
        found.append(config)
        return 0

    monkeypatch.setattr(streams, "run", take)
    monkeypatch.setattr(runner, "run", take)
    return found


def test_a_worker_gets_its_flags(run: Run, configs: list[Any]) -> None:
    flags = ("--id", "7", "--agents", "source,merge", "--until-end", "--commit-interval", "1")
    run("worker", *WHERE, *flags, "--no-transactional", "--http-port", "8080")
    (config,) = configs
    state = Path(".streamgauge")
    assert config == streams.WorkerConfig(
        kafka="here:1",
        registry="file:/tmp/registry",
        worker_id="7",
        agents=("source", "merge"),
        until_end=True,
        commit_interval=1,
        transactional=False,
        http_port=8080,
        checkpoints=state / "checkpoints",
        status=state / "status",
    )


@pytest.mark.parametrize(("flag", "folder"), [("off", None), ("/a/b", Path("/a/b"))])
def test_checkpoints_are_where_one_wants_them_or_off(
    run: Run, configs: list[Any], flag: str, folder: Path | None
) -> None:
    run("worker", *WHERE, "--checkpoints", flag, "--checkpoint-interval", "5")
    (config,) = configs
    assert (config.checkpoints, config.checkpoint_interval) == (folder, 5)


@pytest.mark.parametrize("processes", ["1", "2"])
def test_agents_are_of_names_and_classes_and_wrong_ones_are_told_what_there_is(
    run: Run, configs: list[Any], processes: str
) -> None:
    flags = ("--processes", processes, "--agents")
    output = run("worker", *WHERE, *flags, "ml,merge", exit_code=1).output
    known = "there are realtime: source, merge, results, anomalies; analytics: none"
    assert f"no agents of class 'ml'; {known}" in output
    assert "no agent or class 'x'" in run("worker", *WHERE, *flags, "x", exit_code=1).output
    assert not configs


def test_process_events_is_a_worker_until_the_end(run: Run, configs: list[Any]) -> None:
    run("process-events", *WHERE, "--batch-size", "100")
    (config,) = configs
    assert (config.until_end, config.batch_size) == (True, 100)


@pytest.mark.parametrize(
    ("kind", "target"), [("postgres", "postgresql://x"), ("redis", "redis://x"), ("archive", "/a")]
)
def test_a_sink_gets_its_target(run: Run, configs: list[Any], kind: str, target: str) -> None:
    run("sink", kind, *WHERE, f"--{kind}", target, "--interval", "2", "--namespace", "t-a")
    (config,) = configs
    assert (config.kind, config.target, config.interval) == (kind, target, 2)
    assert (config.namespace, config.kafka) == ("t-a", {"bootstrap.servers": "here:1"})
    assert f"no address for {kind}" in run("sink", kind, *WHERE, exit_code=2).output


def test_webhooks_are_those_of_the_alert_file(run: Run, configs: list[Any]) -> None:
    run("sink", "webhook", *WHERE, "--alerts", "a.yaml", "--definitions", "m.yaml")
    (config,) = configs
    assert (config.kind, config.target, config.definitions) == ("webhook", "a.yaml", "m.yaml")
    output = run("sink", "webhook", *WHERE, exit_code=2).output
    assert "webhooks are defined in the alert file, and there is none: give --alerts" in output


def test_several_processes_are_supervised_until_all_are_done(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines: list[tuple[str, ...]] = []

    def command(*arguments: str) -> list[str]:
        lines.append(arguments)
        return ["sh", "-c", "echo $STREAMGAUGE_KAFKA"]

    monkeypatch.setattr(module, "streamgauge", command)
    flags = ("--until-end", "--agents", "merge", "--tick-after", "0")
    run("worker", *WHERE, "--processes", "2", *flags)
    common = ("--batch-size", "20000", "--until-end", "--agents", "merge", "--tick-after", "0.0")
    assert [line[:3] for line in lines] == [("worker", "--id", "0-0"), ("worker", "--id", "0-1")]
    assert set(common) <= set(lines[0])
    logs = sorted((tmp_path / ".streamgauge" / "logs").iterdir())
    assert [log.read_text() for log in logs] == ["here:1\n", "here:1\n"]
    refused = run("worker", *WHERE, "--processes", "2", "--http-port", "1", exit_code=2)
    assert "start them one by one" in refused.output


def test_processes_that_keep_failing_end_the_command(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "streamgauge", lambda *_: ["sh", "-c", "exit 1"])
    monkeypatch.setattr(module.Supervisor, "failing", property(lambda self: self.children[0]))
    output = run("worker", *WHERE, "--processes", "2", exit_code=1).output
    assert "worker-0-0 keeps failing: see" in output
