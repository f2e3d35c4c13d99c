"""Runs a contender and measures the CPU of its whole process tree, the broker excluded.

Counting starts with its first record (it prints a line `FIRST`) and ends when its group has
committed the input to the end, and what it repartitions on the way too.
"""

import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

# Markers of transactions at the end of an intermediate topic are never consumed.
_MARKERS = 2


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
    first: tuple[float, float] | None = field(default=None)  # CPU and time at the first record

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

    def mark_first(self) -> None:
        if self.first is None:
            self.first = (self.cpu(), time.monotonic())


class Offsets:
    """How far groups and topics are."""

    def __init__(self, bootstrap: str) -> None:
        self._admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})

    def ends(self, topic: str) -> dict[int, int]:
        partitions = self._admin.list_topics(timeout=10).topics[topic].partitions
        asked = {TopicPartition(topic, p): OffsetSpec.latest() for p in partitions}
        return {
            tp.partition: done.result().offset
            for tp, done in self._admin.list_offsets(asked).items()
        }

    def topics(self) -> list[str]:
        return list(self._admin.list_topics(timeout=10).topics)

    def committed(self, group: str) -> dict[tuple[str, int], int]:
        asked = self._admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
        return {
            (tp.topic, tp.partition): max(tp.offset, 0)
            for tp in asked[group].result().topic_partitions
        }

    def behind(self, group: str, source: Mapping[int, int], topic: str, inner: str) -> int:
        """Records the group has yet to commit, of the input and of its own inner topics."""
        at = self.committed(group)
        lag = sum(max(0, end - at.get((topic, p), 0)) for p, end in source.items())
        if lag:
            return lag
        for name in self.topics():
            if inner and inner in name and group in name:
                for p, end in self.ends(name).items():
                    lag += max(0, end - at.get((name, p), 0) - _MARKERS)
        return lag


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
) -> Measurement:
    """Start a contender, wait until it is through, stop it."""
    offsets = Offsets(bootstrap)
    ends = offsets.ends(source)
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
    finished, behind = False, sum(ends.values())
    cpu, ended = 0.0, time.monotonic()
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
        cpu, ended = tree.cpu(), time.monotonic()
        if tree.first is None:
            continue
        try:
            behind = offsets.behind(group, ends, source, inner)
        except KafkaException:  # the group is not there yet
            continue
        if behind == 0:
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
    events = sum(ends.values()) - (0 if finished else behind)
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
                tree.mark_first()
            out.write(line)
            out.flush()
