"""Runs a contender and measures the CPU of its whole process tree, the broker excluded.

Counting starts with its first record (it prints a line `FIRST`) and ends when its group has
committed the input to the end, and what it repartitions on the way too; or, where it ends by
itself, when it prints `DONE`.
"""

import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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


@dataclass(kw_only=True)
class _Tree:
    """CPU and memory of a process and all it started."""

    root: psutil.Process
    peak_rss: int = 0
    first: tuple[float, float] | None = None  # CPU and time at the first record
    done: tuple[float, float] | None = None  # and when it said that it was done

    def cpu(self) -> float:
        total, rss = 0.0, 0
        for process in [self.root, *self.root.children(recursive=True)]:
            try:
                total += sum(process.cpu_times()[:4])  # children that ended are in the last two
                rss += process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        self.peak_rss = max(self.peak_rss, rss)
        return total

    def now(self) -> tuple[float, float]:
        return self.cpu(), time.monotonic()


class Lag:
    """How far a group is behind on its input and on the topic between its stages."""

    def __init__(self, bootstrap: str, group: str, source: str, inner: str) -> None:
        self._log = Log({"bootstrap.servers": bootstrap, "log_level": 0})
        self._group, self._source, self._inner = group, source, inner
        self.ends = self._log.bounds(source)[1]

    def records(self) -> int:
        """Records it has yet to commit."""
        behind = self._behind(self._source, self.ends)
        if behind == 0 and self._log.exists(self._inner):
            behind = self._behind(self._inner, self._log.bounds(self._inner)[1])
        return behind

    def close(self) -> None:
        self._log.close()

    def _behind(self, topic: str, ends: Mapping[int, int]) -> int:
        at = self._log.committed(self._group, topic)
        behind = sum(max(0, end - at[p]) for p, end in ends.items())
        # The tail may be markers of transactions, which nobody ever commits.
        return behind if behind > 100 else self._log.remaining(topic, at, ends)


def run(
    command: Sequence[str],
    *,
    bootstrap: str,
    group: str,
    source: str,
    inner: str,
    log: Path,
    environment: Mapping[str, str],
    timeout: float,
    until_done: bool = False,
) -> Measurement:
    """Start a contender, wait until it is through, stop it."""
    lag = Lag(bootstrap, group, source, inner)
    log.parent.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=dict(environment),
    )
    tree = _Tree(root=psutil.Process(process.pid))
    reader = threading.Thread(target=_follow, args=(process, tree, log), daemon=True)
    reader.start()
    deadline = time.monotonic() + timeout
    total = sum(lag.ends.values())
    finished, behind = False, total
    cpu, ended = 0.0, time.monotonic()
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.2)
        behind = total if tree.first is None else lag.records()
        cpu, ended = tree.done or tree.now()
        if tree.done or (behind == 0 and not until_done):
            finished = True
            break
    if process.poll() is None:
        if finished:
            time.sleep(3)  # the last transaction's markers
        process.terminate()
        try:
            process.wait(40)
        except subprocess.TimeoutExpired:
            process.kill()
    reader.join(5)
    lag.close()
    events = total - (0 if finished else behind)
    first_cpu, first_at = tree.first or (cpu, ended)
    return Measurement(
        events=max(events, 1),
        cpu_s=cpu - first_cpu,
        wall_s=max(ended - first_at, 1e-3),
        startup_cpu_s=first_cpu,
        peak_rss_mb=tree.peak_rss >> 20,
        finished=finished,
    )


def _follow(process: "subprocess.Popen[str]", tree: _Tree, log: Path) -> None:
    assert process.stdout is not None
    with log.open("w") as out:
        for line in process.stdout:
            if line.startswith("FIRST"):
                tree.first = tree.first or tree.now()
            elif line.startswith("DONE"):
                tree.done = tree.now()
            out.write(line)
            out.flush()
