"""A read_committed reader that reads while things fail: what it has seen must still be there."""

import threading
from collections import Counter

from confluent_kafka import Consumer, TopicPartition

from tests.streams.engine.counting import PARTITIONS, Counting


class Reading:
    """Reads the counting app's outputs in a thread, until `taken_back` asks."""

    def __init__(self, counting: Counting) -> None:
        self._counting = counting
        self._seen: dict[str, Counter[tuple[int, bytes, bytes]]] = {
            counting.topic(name): Counter() for name in ("forwarded", "counts")
        }
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def taken_back(self) -> list[str]:
        """Rows that were seen and are not in the log: aborted, or torn."""
        self._stop.set()
        self._thread.join(120)
        found = []
        for topic, seen in self._seen.items():
            assert seen, f"nothing was read of {topic}"
            there = Counter(self._counting.read(topic.removeprefix(f"{self._counting.namespace}.")))
            found += [f"{topic}: {row}" for row in seen - there]
        return found

    def _read(self) -> None:
        consumer = Consumer(
            {
                "bootstrap.servers": self._counting.kafka,
                "group.id": "watching",
                "isolation.level": "read_committed",
                "auto.offset.reset": "earliest",
                "enable.auto.commit": False,
            }
        )
        consumer.assign([TopicPartition(t, p, 0) for t in self._seen for p in range(PARTITIONS)])
        while not self._stop.is_set():
            for message in consumer.consume(1000, 0.2):
                if message.error() is None:
                    row = (message.partition(), message.key(), message.value())
                    self._seen[message.topic()][row] += 1
        consumer.close()
