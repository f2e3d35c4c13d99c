"""Holds a producer back on the embedded broker, which forgets what is read too late.

Upstream: `demo`, `simulate` and `produce`, which ask `on` before they send more. Downstream: the
broker's ends and the readers' commits, looked at by a thread of its own. Invariant: it is on
while some partition holds more than `UNREAD_BYTES` that its slowest reader has not committed, by
the mean size of what was sent, uncompressed: the broker keeps `KEPT_BYTES`, compressed.
"""

import json
import threading
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaException

from streamgauge.cli.stack.lag import GROUPS, Broker
from streamgauge.schemas.topics import EVENTS, qualified

UNREAD_BYTES = 2 << 20
LOOK_SECONDS = 0.1
# Of topics that the workers write; their rows are wide.
UNREAD_ROWS = 4_000


class Brake:
    """`on` while the readers are too far behind; `conf` goes into the producer's settings."""

    def __init__(self, kafka: str, namespace: str, readers: Sequence[str] = tuple(GROUPS)) -> None:
        self.on = False
        self.conf: dict[str, Any] = {
            "bootstrap.servers": kafka,
            "statistics.interval.ms": 200,
            "stats_cb": self._measure,
        }
        self._namespace = namespace
        self._events = qualified(namespace, EVENTS.name)
        self._readers = readers
        self._broker = Broker(kafka)
        self._record_bytes = 500.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="brake", daemon=True)

    def __enter__(self) -> "Brake":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def wait(self, stop: threading.Event | None = None) -> None:
        """Return once it is off, or `stop` is set."""
        while self.on and not self._stop.wait(0.02):
            if stop is not None and stop.is_set():
                return

    def look(self) -> bool:
        """Whether some reader is too far behind now."""
        for reader in self._readers:
            for position in self._broker.positions(self._namespace, reader):
                sent = position.topic == self._events
                most = UNREAD_BYTES / self._record_bytes if sent else UNREAD_ROWS
                if position.lag > most:
                    return True
        return False

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            try:
                self.on = self.look()
            except KafkaException:
                self.on = True  # nobody knows how far the readers are

    def _measure(self, statistics: str) -> None:
        told = json.loads(statistics)
        if told["txmsgs"]:
            self._record_bytes = max(told["txmsg_bytes"] / told["txmsgs"], 1.0)
