"""Watches the groups' commits and the ends of topics, all the while: does anything hang?

Upstream: the broker. Downstream: `run` (lag, recoveries) and the report. Invariants that it finds
broken: a partition with lag does not move for `HANG` seconds (I6); a worker's committed offset
goes back (I2: a zombie's commit came after the new owner's); a transaction holds the end of an
output topic for longer than its timeout and the broker's clean-up interval (I6). Time in which a
fault takes the broker away, or in which it does not answer, is nobody's hang.
"""

import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TypeAlias

from confluent_kafka import KafkaException

from streamgauge.cli.stack.lag import Broker
from streamgauge.schemas.topics import TOPICS, qualified

HANG = 60.0
OPEN_LIMIT = 30.0
"""Seconds: transaction timeout (10), the broker's look for expired ones (10), a slow machine."""
LOOK = 0.5

Place: TypeAlias = tuple[str, str, int]
"""Group (as `GROUPS` names it), topic, partition."""


@dataclass
class Recovery:
    """What must move before a fault has been got over; `seconds` once it has."""

    began: float
    left: dict[Place, int]
    seconds: float | None = None


@dataclass
class Mark:
    """An offset, and when it was first seen there."""

    offset: int
    since: float
    lag: int = 0


@dataclass
class Findings:
    """What was seen over the whole run."""

    broken: list[str] = field(default_factory=list)
    longest_stall: float = 0.0
    longest_open: float = 0.0
    looks: int = 0
    blind: int = 0


class Watch(threading.Thread):
    """Looks every half second until `close`."""

    def __init__(self, kafka: str, namespace: str, groups: Collection[str]) -> None:
        super().__init__(name="watch", daemon=True)
        self.found = Findings()
        self._kafka = kafka
        self._namespace = namespace
        self._groups = groups
        self._outputs = [qualified(namespace, name) for name in TOPICS]
        self._commits: dict[Place, Mark] = {}
        self._open: dict[tuple[str, int], Mark] = {}
        self._away = False
        self._quiet_since = time.monotonic()
        self._recoveries: list[Recovery] = []
        self._hung: set[Place | tuple[str, int]] = set()
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def close(self) -> None:
        """Look no more."""
        self._closed.set()
        self.join()

    def lag(self, group: str = "worker") -> int:
        """Records that a group has before it, as of the last look."""
        return sum(mark.lag for (name, *_), mark in list(self._commits.items()) if name == group)

    def broker_leaves(self) -> None:
        """Until a fault has ended, the broker is not there for everybody."""
        with self._lock:
            self._away = True

    def broker_is_back(self) -> None:
        """It is there again."""
        with self._lock:
            self._away, self._quiet_since = False, time.monotonic()

    def recovery(self, groups: Collection[str]) -> Recovery:
        """From now on these groups' commits must move again, wherever there is lag."""
        now = time.monotonic()
        with self._lock:
            left = {p: mark.offset for p, mark in self._commits.items() if p[0] in groups}
            recovery = Recovery(began=now, left=left)
            self._recoveries.append(recovery)
        return recovery

    def run(self) -> None:
        broker = Broker(self._kafka, timeout=5)
        while not self._closed.wait(LOOK):
            self.found.looks += 1
            try:
                self._look(broker)
            except KafkaException:
                self.found.blind += 1
                self._quiet_since = time.monotonic()

    def _look(self, broker: Broker) -> None:
        for group in self._groups:
            for at in broker.positions(self._namespace, group):
                committed = at.committed if at.committed is not None else 0
                self._committed((group, at.topic, at.partition), committed, at.lag)
        # Stable ends first: what is read later can only be further on.
        stable = broker.ends(self._outputs, stable=True)
        for place, end in broker.ends(self._outputs).items():
            self._ends(place, stable.get(place, end), end)
        self._judge()

    def _committed(self, place: Place, offset: int, lag: int) -> None:
        now = time.monotonic()
        with self._lock:
            known = self._commits.get(place)
            if known is not None and offset == known.offset and lag and known.lag:
                known.lag = lag
            else:
                if known is not None and offset < known.offset and place[0] == "worker":
                    self._break(f"{_named(place)} went back from {known.offset} to {offset}")
                self._commits[place] = Mark(offset, now, lag)
            for recovery in self._recoveries:
                # Moved, or with nothing to do: both are where they should be.
                if place in recovery.left and (offset != recovery.left[place] or not lag):
                    del recovery.left[place]
                if not recovery.left:
                    recovery.seconds = now - recovery.began
            self._recoveries = [one for one in self._recoveries if one.seconds is None]

    def _ends(self, place: tuple[str, int], stable: int, end: int) -> None:
        known = self._open.get(place)
        if stable >= end:
            self._open.pop(place, None)
        elif known is None or known.offset != stable:
            self._open[place] = Mark(stable, time.monotonic())

    def _judge(self) -> None:
        """How long everything that stands has stood, the faults' own time left out."""
        now = time.monotonic()
        with self._lock:
            if self._away:
                return
            for place, mark in self._commits.items():
                stood = now - max(mark.since, self._quiet_since) if mark.lag else 0.0
                self.found.longest_stall = max(self.found.longest_stall, stood)
                if stood > HANG:
                    self._hang(place, f"{_named(place)} stands at {mark.offset}, {mark.lag} behind")
            for at, mark in self._open.items():
                stood = now - max(mark.since, self._quiet_since)
                self.found.longest_open = max(self.found.longest_open, stood)
                if stood > OPEN_LIMIT:
                    self._hang(at, f"{at[0]}/{at[1]} is held at {mark.offset} by a transaction")

    def _hang(self, place: Place | tuple[str, int], what: str) -> None:
        if place not in self._hung:
            self._hung.add(place)
            self._break(what)

    def _break(self, what: str) -> None:
        self.found.broken.append(what)


def open_transactions(kafka: str, patience: float = OPEN_LIMIT) -> dict[str, int]:
    """Partitions, the broker's own offsets included, whose stable end stays behind their end."""
    broker = Broker(kafka, timeout=10)
    deadline = time.monotonic() + patience
    while True:
        topics = broker.topics(internal=True)
        stable, ends = broker.ends(topics, stable=True), broker.ends(topics)
        found = {f"{t}/{p}": ends[t, p] - at for (t, p), at in stable.items() if at < ends[t, p]}
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(1)


def _named(place: Place) -> str:
    group, topic, partition = place
    return f"{group}'s commit of {topic}/{partition}"
