"""Keeps child processes running: started together, restarted after a crash, stopped in order.

Upstream: the stack and `worker --processes N`. Downstream: `python -m streamgauge.cli ...`
children with a log file each. Invariants: a child that ends with 0 has done its work and stays
ended; any other end is a crash and starts it again, after a pause that doubles up to
`MAX_PAUSE` and is forgotten once the child has run for as long. A crash loop is no secret:
`failing` names it.
"""

import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from streamgauge.cli.stack import process

FIRST_PAUSE = 0.2
MAX_PAUSE = 10.0
POLL = 0.1
STOP_TIMEOUT = 15.0


@dataclass(kw_only=True)
class Child:
    """One supervised process."""

    name: str
    command: Sequence[str]
    log: Path
    env: Mapping[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    pause: float = FIRST_PAUSE
    started: float = 0.0
    due: float = 0.0

    @property
    def pid(self) -> int | None:
        """The running process, None between two."""
        running = self.process is not None and self.process.poll() is None
        return self.process.pid if running and self.process else None

    @property
    def done(self) -> bool:
        """Whether it has ended by itself and well."""
        return self.process is not None and self.process.poll() == 0


class Supervisor:
    """Runs children until stopped. They are spawned by its own thread, and die with it."""

    def __init__(self, children: Sequence[Child]) -> None:
        self.children = tuple(children)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="supervisor", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def done(self) -> bool:
        """Whether every child has done its work."""
        return all(child.done for child in self.children)

    @property
    def failing(self) -> Child | None:
        """A child that has crashed at once several times over, if there is one."""
        for child in self.children:
            if child.pause >= MAX_PAUSE / 2:
                return child
        return None

    def stop(self) -> None:
        """SIGTERM to all at once, SIGKILL to what is left after `STOP_TIMEOUT` seconds."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        for child in self.children:
            self._spawn(child)
        while not self._stop.wait(POLL):
            for child in self.children:
                self._tend(child)
        # Here and not in `stop`: at this thread's end the children get their death signal.
        running = [child.process for child in self.children if child.process is not None]
        for one in running:
            one.terminate()
        deadline = time.monotonic() + STOP_TIMEOUT
        for one in running:
            process.stop(one, max(0.1, deadline - time.monotonic()))

    def _tend(self, child: Child) -> None:
        now = time.monotonic()
        if child.pid is not None:
            if now - child.started > MAX_PAUSE:
                child.pause = FIRST_PAUSE
        elif child.due:
            if now >= child.due:
                child.restarts += 1
                self._spawn(child)
        elif not child.done:
            child.due = now + child.pause
            child.pause = min(MAX_PAUSE, child.pause * 2)

    def _spawn(self, child: Child) -> None:
        child.due, child.started = 0.0, time.monotonic()
        child.process = process.spawn(child.command, log=child.log, env=child.env)


def streamgauge(*arguments: str) -> list[str]:
    """The command line of one of our own commands, in this very Python."""
    return [sys.executable, "-m", "streamgauge.cli", *arguments]
