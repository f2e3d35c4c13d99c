"""Runs a contender and measures the CPU of its whole process tree, the broker excluded.

Upstream: race.py and steady.py. Counting starts with its first record (it prints a line `FIRST`)
and ends when its group has committed the input to the end, and what it repartitions on the way
too; or, where it ends by itself, when it prints `DONE`.
"""

import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil

from streamgauge.cli.verify.log import Log


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a run cost."""

    events: int
    cpu_s: float
    wall_s: float
    startup_cpu_s: float
    peak_rss_mb: int
    output_rows: int = 0
    finished: bool = True

    @property
    def cpu_us(self) -> float:
        """CPU µs an event, user and system."""
        return self.cpu_s / self.events * 1e6

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.wall_s


@dataclass(frozen=True, kw_only=True)
class Moment:
    """CPU seconds spent so far, and when that was."""

    cpu_s: float
    at: float


class Program:
    """A process and all it starts: what it says, its CPU and memory. Leaving it stops it."""

    def __init__(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=dict(environment),
        )
        self._root = psutil.Process(self._process.pid)
        self.peak_rss = 0
        self.first: Moment | None = None  # its first record
        self.done: Moment | None = None  # it said that it was done
        self._reader = threading.Thread(target=self._follow, args=(log,), daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.runs:
            self._process.terminate()
            try:
                self._process.wait(40)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._reader.join(5)

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def now(self) -> Moment:
        """What it has spent; looks at its memory as well."""
        total, rss = 0.0, 0
        for process in [self._root, *self._root.children(recursive=True)]:
            try:
                total += sum(process.cpu_times()[:4])  # children that ended are in the last two
                rss += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        self.peak_rss = max(self.peak_rss, rss)
        return Moment(cpu_s=total, at=time.monotonic())

    def _follow(self, log: Path) -> None:
        assert self._process.stdout is not None
        with log.open("w") as out:
            for line in self._process.stdout:
                if line.startswith("FIRST"):
                    self.first = self.first or self.now()
                elif line.startswith("DONE"):
                    self.done = self.now()
                out.write(line)
                out.flush()


class Lag:
    """How far a group is behind on its input and on the topic between its stages."""

    def __init__(self, bootstrap: str, group: str, source: str, inner: str) -> None:
        self._log = Log({"bootstrap.servers": bootstrap, "log_level": 0})
        self._group, self._source, self._inner = group, source, inner

    def close(self) -> None:
        """Let go of the connections."""
        self._log.close()

    def total(self) -> int:
        """How many records the input has."""
        return sum(self._log.bounds(self._source)[1].values())

    def records(self) -> int:
        """Records it has yet to commit."""
        behind = self._behind(self._source)
        if behind == 0 and self._log.exists(self._inner):
            behind = self._behind(self._inner)
        return behind

    def _behind(self, topic: str) -> int:
        ends = self._log.bounds(topic)[1]
        at = self._log.committed(self._group, topic)
        behind = sum(max(0, end - at[p]) for p, end in ends.items())
        # The tail may be markers of transactions, which nobody ever commits.
        return behind if behind > 100 else self._log.remaining(topic, at, ends)


def run(program: Program, lag: Lag, *, until_done: bool, timeout: float) -> Measurement:
    """Wait until a program is through with its input."""
    deadline = time.monotonic() + timeout
    total = lag.total()
    finished, behind = False, total
    end = program.now()
    while not finished and time.monotonic() < deadline and program.runs:
        time.sleep(0.2)
        behind = lag.records() if program.first else total
        end = program.done or program.now()
        finished = program.done is not None or (behind == 0 and not until_done)
    if finished:
        time.sleep(3)  # the last transaction's markers
    first = program.first or end
    return Measurement(
        events=max(total if finished else total - behind, 1),
        cpu_s=end.cpu_s - first.cpu_s,
        wall_s=max(end.at - first.at, 1e-3),
        startup_cpu_s=first.cpu_s,
        peak_rss_mb=program.peak_rss >> 20,
        finished=finished,
    )
