"""Looks at the groups' commits and the ends of topics, twice a second for the whole run.

Upstream: the broker, through the proxy as everybody else. Downstream: `standing`, which judges;
`run`, which asks for the lag. Invariant: it only looks; it is a member of no group.
"""

import threading
import time
from collections.abc import Collection

from confluent_kafka import KafkaException

from streamgauge.cli.chaos.standing import OPEN_LIMIT, Recovery, Standing
from streamgauge.cli.stack.lag import Broker
from streamgauge.schemas.topics import TOPICS, qualified

LOOK = 0.5


class Watch(threading.Thread):
    """Looks until `close`."""

    def __init__(self, kafka: str, namespace: str, groups: Collection[str]) -> None:
        super().__init__(name="watch", daemon=True)
        self.standing = Standing()
        self.looks = self.unanswered = 0
        self._kafka = kafka
        self._namespace = namespace
        self._groups = groups
        self._outputs = [qualified(namespace, name) for name in TOPICS]
        self._lock = threading.Lock()
        self._closed = threading.Event()

    def close(self) -> None:
        """Look no more."""
        self._closed.set()
        self.join()

    def lag(self, group: str = "worker") -> int:
        """Records that a group has before it, as of the last look."""
        with self._lock:
            return self.standing.lag(group)

    def broker(self, *, away: bool) -> None:
        """A fault takes the broker away, or gives it back."""
        with self._lock:
            self.standing.broker(away=away, now=time.monotonic())

    def recovery(self, groups: Collection[str]) -> Recovery:
        """From now on these groups' commits must move."""
        with self._lock:
            return self.standing.recovery(groups, time.monotonic())

    def run(self) -> None:
        broker = Broker(self._kafka, timeout=5)
        while not self._closed.wait(LOOK):
            self.looks += 1
            try:
                self._look(broker)
            except KafkaException:
                self.unanswered += 1
                with self._lock:
                    self.standing.unanswered(time.monotonic())

    def _look(self, broker: Broker) -> None:
        positions = {group: broker.positions(self._namespace, group) for group in self._groups}
        # Stable ends first: what is read later can only be further on.
        stable = broker.ends(self._outputs, stable=True)
        ends = broker.ends(self._outputs)
        with self._lock:
            now = time.monotonic()
            for group, found in positions.items():
                for at in found:
                    place = group, at.topic, at.partition
                    # Ends are asked for first: commits may have passed them meanwhile.
                    self.standing.committed(place, at.committed or 0, max(0, at.lag), now)
            for end, offset in ends.items():
                self.standing.ends(end, stable.get(end, offset), offset, now)
            self.standing.judge(now)


def open_transactions(kafka: str, patience: float = OPEN_LIMIT) -> dict[str, int]:
    """Partitions, the broker's own included, whose stable end stays behind their end."""
    broker = Broker(kafka, timeout=10)
    deadline = time.monotonic() + patience
    while True:
        topics = broker.topics(internal=True)
        stable, ends = broker.ends(topics, stable=True), broker.ends(topics)
        found = {f"{t}/{p}": ends[t, p] - at for (t, p), at in stable.items() if at < ends[t, p]}
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(1)
