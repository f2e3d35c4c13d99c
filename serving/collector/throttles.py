"""Who is let in at a slower pace only: the actions that policies took, while they are in force.

Upstream: the compacted topic `actions`, written by the worker and by people who undo it; read from
its beginning by a thread. Downstream: `intake.py` asks for every event.

Invariants: of several actions on one user the least rate counts; an action is in force until it
has ended, was undone or is deleted. Without the topic, or while Kafka is away, what was read last
holds. Each process of a collector has buckets of its own.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, TopicPartition

from streamgauge.schemas.codec import Codec
from streamgauge.schemas.registry import Registry
from streamgauge.schemas.topics import ACTIONS, qualified
from streamgauge.serving.collector.rates import Buckets

logger = logging.getLogger(__name__)

THROTTLE = "throttle"
READ_S = 0.2
AGAIN_S = 10.0


class Throttles:
    """The actions in force; told by one thread, asked by another."""

    def __init__(self) -> None:
        self._rates: dict[str, dict[bytes, float]] = {}
        self._users: dict[bytes, str] = {}
        self._least: dict[str, float] = {}
        self._buckets = Buckets()

    def tell(self, key: bytes, action: Mapping[str, Any] | None) -> None:
        """A record of the topic; None deletes it."""
        user = self._users.pop(key, None)
        if user is not None:
            del self._rates[user][key]
        elif action is not None:
            user = action["user_id"]
        if action is not None and _in_force(action):
            self._users[key] = user = action["user_id"]
            self._rates.setdefault(user, {})[key] = action["rate"]
        if user is None:
            return
        if rates := self._rates.get(user):
            self._least[user] = min(rates.values())
        else:
            self._rates.pop(user, None)
            self._least.pop(user, None)

    def refuses(self, user: str, now: float) -> float | None:
        """The events a minute that a user is held to, where this one is too much."""
        rate = self._least.get(user)
        if rate is None:
            return None
        if rate <= 0 or self._buckets.wait(user, rate / 60, now):
            return rate
        self._buckets.charge(user, rate / 60, 1, now)
        return None


def _in_force(action: Mapping[str, Any]) -> bool:
    over = action["ended_at"] is not None or action["undone_at"] is not None
    return action["action"] == THROTTLE and not over


class Reader:
    """The thread, from `start` to `stop`."""

    def __init__(
        self,
        kafka: str,
        namespace: str,
        registry: Registry,
        tell: Callable[[bytes, Mapping[str, Any] | None], None],
    ) -> None:
        self._topic = qualified(namespace, ACTIONS.name)
        self._settings = {
            "bootstrap.servers": kafka,
            "group.id": f"{self._topic}-readers",  # never committed
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "allow.auto.create.topics": False,
            "log_level": 0,
        }
        self._codec = Codec(registry)
        self._tell = tell
        self._stopped = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, name="throttles", daemon=True).start()

    def stop(self) -> None:
        """Returns at once."""
        self._stopped.set()

    def _run(self) -> None:
        consumer = Consumer(self._settings)
        while not self._stopped.is_set() and not self._assigned(consumer):
            self._stopped.wait(AGAIN_S)
        while not self._stopped.is_set():
            for message in consumer.consume(1000, READ_S):
                if message.error() is None:
                    self._read(message.key() or b"", message.value())
        consumer.close()

    def _assigned(self, consumer: Consumer) -> bool:
        try:
            found = consumer.list_topics(self._topic, 2.0).topics[self._topic]
        except KafkaException:
            return False
        if found.error is not None or not found.partitions:
            return False
        places = [TopicPartition(self._topic, each, OFFSET_BEGINNING) for each in found.partitions]
        consumer.assign(places)
        return True

    def _read(self, key: bytes, value: bytes | None) -> None:
        try:
            self._tell(key, None if value is None else self._codec.decode(value).record)
        except Exception as error:  # one record that is no action must not end the others
            logger.error("a record of %s cannot be read: %s", self._topic, error)
