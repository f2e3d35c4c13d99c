"""The whole stack: what it starts, what it is told to use, who may have its folder."""

import time
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from redis import Redis

from streamgauge.cli.errors import CommandError
from streamgauge.cli.settings import Settings, load, running_stack
from streamgauge.cli.stack import stack as module
from streamgauge.cli.stack import supervisor
from streamgauge.cli.stack.kafka import LocalKafka
from streamgauge.cli.stack.lag import Broker
from streamgauge.cli.stack.stack import Stack

pytestmark = [pytest.mark.postgres, pytest.mark.redis]


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch, server_dir: Path) -> list[tuple[str, ...]]:
    """The command lines of the children, which only say what they were told, and wait."""
    monkeypatch.chdir(server_dir)
    found: list[tuple[str, ...]] = []

    def command(*arguments: str) -> list[str]:
        found.append(arguments)
        return ["sh", "-c", "env | grep ^STREAMGAUGE_; sleep 600"]

    monkeypatch.setattr(module, "streamgauge", command)
    return found


@pytest.fixture
def settings(lines: object) -> Settings:
    return load({"workers": 2, "namespace": "t-stack"}, use_running_stack=False)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_everything_answers_and_children_are_told_where_it_is(
    settings: Settings, lines: list[tuple[str, ...]], server_dir: Path
) -> None:
    with Stack(settings, server_dir / "stack") as stack:
        told = stack.addresses
        Redis.from_url(told["redis"]).set("key", "value")
        with psycopg.connect(told["postgres"]) as connection:
            connection.execute("CREATE TABLE notes ()")
        assert "t-stack.events" in Broker(told["kafka"]).topics()
        assert [line[:3] for line in lines] == [
            ("worker", "--id", "0"),
            ("worker", "--id", "1"),
            ("sink", "postgres"),
            ("sink", "redis"),
            ("sink", "archive", "--interval"),
        ]
        assert len(stack.children) == 5
        logs = server_dir / "stack" / "logs"
        until(lambda: all(child.pid for child in stack.children))
        until(lambda: (logs / "worker-1.log").read_text())
        heard = dict(
            line.split("=", 1) for line in (logs / "worker-1.log").read_text().splitlines()
        )
        assert heard["STREAMGAUGE_KAFKA"] == told["kafka"]
        assert heard["STREAMGAUGE_TRANSACTIONAL"] == "False"
        assert heard["STREAMGAUGE_NAMESPACE"] == "t-stack"

        with pytest.raises(CommandError, match="another stack runs in"):
            Stack(settings, server_dir / "stack").start()
        stack.announce()
        assert running_stack(settings.dir)["kafka"] == told["kafka"]
        stack.check()
        pids = [child.pid for child in stack.children] + [one.pid for one in stack.servers]
    assert None not in pids
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert running_stack(settings.dir) == {}

    # The embedded broker begins anew, and so does everything that was computed from it.
    with Stack(settings, server_dir / "stack") as stack:
        assert Redis.from_url(stack.addresses["redis"]).get("key") is None


def test_addresses_that_are_given_are_used_and_started_by_nobody(
    lines: list[tuple[str, ...]],
    kafka: str,
    postgres: str,
    redis_url: str,
    registry_url: str,
    namespace: str,
    server_dir: Path,
) -> None:
    given = {"kafka": kafka, "postgres": postgres, "redis": redis_url, "registry": registry_url}
    alerts = server_dir / "alerts.yaml"
    alerts.write_text("webhooks: [{name: ops, url: 'https://ops', experiments: true}]")
    settings = load({**given, "namespace": namespace, "alerts": alerts}, use_running_stack=False)
    with Stack(settings, server_dir / "stack", sinks=["redis"]) as stack:
        assert stack.servers == []
        assert given.items() <= stack.addresses.items()
        assert stack.settings.transactional is True
        assert lines == [("worker", "--id", "0"), ("sink", "redis"), ("sink", "webhook")]


@pytest.mark.kafka
def test_a_local_kafka_keeps_its_data_and_one_that_runs_is_joined(
    lines: list[tuple[str, ...]], redis_url: str, postgres: str, server_dir: Path
) -> None:
    given = {"kafka": "local", "redis": redis_url, "postgres": postgres}
    settings = load(given, use_running_stack=False)
    with Stack(settings, server_dir / "stack", sinks=[]) as stack:
        assert stack.settings.transactional is True
        assert isinstance(stack.servers[0], LocalKafka)
        with Stack(settings, server_dir / "other", sinks=[]) as joined:
            assert joined.servers == []
            assert joined.addresses["kafka"] == stack.addresses["kafka"]


def test_a_server_or_process_that_fails_is_named_with_its_log(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, server_dir: Path
) -> None:
    monkeypatch.setattr(module, "streamgauge", lambda *_: ["sh", "-c", "echo oh no; exit 1"])
    monkeypatch.setattr(supervisor, "POLL", 0.01)
    monkeypatch.setattr(supervisor, "MAX_PAUSE", 0.8)
    with Stack(settings, server_dir / "stack") as stack:
        until(lambda: all(child.pause >= 0.4 for child in stack.children))
        with pytest.raises(CommandError, match=r"worker-0 keeps failing, see .*log:\noh no"):
            stack.check()
        stack.servers[1].kill()
        with pytest.raises(CommandError, match="Postgres has ended, see"):
            stack.check()


def test_a_start_that_fails_leaves_nothing_behind(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, server_dir: Path
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise CommandError("no topics")

    monkeypatch.setattr(module, "create_topics", fail)
    stack = Stack(settings, server_dir / "stack")
    with pytest.raises(CommandError, match="no topics"), stack:
        pass
    assert [server.pid for server in stack.servers] == [None, None, None]
