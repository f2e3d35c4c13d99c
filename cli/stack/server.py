"""One server as a child process: started until it answers, stopped, killed, bounced.

Upstream: `kafka.py`, `postgres.py` and `redis.py`, which say what to run and how it answers.
Invariant: address and data survive `restart`, whether clean or by SIGKILL.
"""

import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from signal import SIGKILL, Signals
from typing import Self

from streamgauge.cli.errors import CommandError
from streamgauge.cli.stack import process


class Server(ABC):
    """A server over `data_dir` on 127.0.0.1; `port` None takes a free one."""

    name: str
    death_signal: Signals = SIGKILL
    user: str | None = None

    def __init__(self, data_dir: Path, port: int | None = None, *, detached: bool = False) -> None:
        self.data_dir = Path(data_dir).absolute()
        self.port = port or process.free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.log = self.data_dir / f"{self.name.lower()}.log"
        self._detached = detached
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def prepare(self) -> Sequence[str | Path]:
        """Make the data folder ready; returns the command to run."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether a client is served by now."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """The server's process, None when it does not run."""
        if self._process is None or self._process.poll() is not None:
            return None
        return self._process.pid

    def start(self, timeout: float = 60.0) -> None:
        """Start the server and wait until it answers."""
        self.launch()
        self.await_answer(timeout)

    def launch(self) -> None:
        """Start the process; `await_answer` comes next."""
        if self.pid is not None:
            return
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._process = process.spawn(
            self.prepare(),
            log=self.log,
            user=self.user,
            detached=self._detached,
            death_signal=self.death_signal,
        )

    def await_answer(self, timeout: float = 60.0) -> None:
        """Wait until the server answers; one that does not is ended."""
        deadline = time.monotonic() + timeout
        while not self.answers():
            if self.pid is None or time.monotonic() > deadline:
                self.kill()
                raise CommandError(
                    f"{self.name} did not start, see {self.log}:\n{process.tail(self.log)}"
                )
            time.sleep(0.02)

    def stop(self, timeout: float = 30.0) -> None:
        """Stop the server in good order."""
        if self._process is not None:
            process.stop(self._process, timeout)
            self._process = None

    def kill(self) -> None:
        """End the server as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self, *, hard: bool = False) -> None:
        """Bounce the server, cleanly or (`hard`) by SIGKILL."""
        if hard:
            self.kill()
        else:
            self.stop()
        self.start()
