"""Supervised children: crashes are restarted, work done stays done, nothing is left behind."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from streamgauge.cli.stack import supervisor
from streamgauge.cli.stack.supervisor import Child, Supervisor


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "POLL", 0.01)
    monkeypatch.setattr(supervisor, "STOP_TIMEOUT", 2.0)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Supervisor]]:
    started: list[Supervisor] = []

    def start(*scripts: str) -> Supervisor:
        children = [
            Child(
                name=f"child-{number}",
                command=[sys.executable, "-c", script],
                log=tmp_path / f"{number}.log",
                pause=0.02,
            )
            for number, script in enumerate(scripts)
        ]
        started.append(Supervisor(children))
        started[-1].start()
        return started[-1]

    yield start
    for one in started:
        one.stop()


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


SLEEP = "import time; print('up', flush=True); time.sleep(600)"


def test_a_killed_child_is_started_again(run: Callable[..., Supervisor]) -> None:
    (child,) = run(SLEEP).children
    until(lambda: child.pid)
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    until(lambda: child.pid not in (None, first))
    assert child.restarts == 1


def test_a_child_that_ended_well_is_done_and_not_started_again(
    run: Callable[..., Supervisor],
) -> None:
    done = run("pass", "pass")
    until(lambda: done.done)
    time.sleep(0.1)
    assert [child.restarts for child in done.children] == [0, 0]


def test_a_crash_loop_backs_off_and_is_named(
    run: Callable[..., Supervisor], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "MAX_PAUSE", 0.3)
    loop = run("raise SystemExit('no such setting')")
    assert loop.failing is None
    (child,) = loop.children
    until(lambda: loop.failing and "no such setting" in child.log.read_text())
    assert child.restarts < 30


def test_stopping_ends_even_a_child_that_ignores_sigterm(run: Callable[..., Supervisor]) -> None:
    deaf = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SLEEP
    both = run(deaf, SLEEP)
    until(lambda: all(child.log.exists() and child.log.read_text() for child in both.children))
    both.stop()
    assert [child.pid for child in both.children] == [None, None]
    assert [child.process.returncode for child in both.children if child.process] == [-9, -15]
