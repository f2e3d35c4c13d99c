"""A read_committed reader of the output topics, during the whole run: what must hold at any time.

Upstream: `metric-partials`, `metrics`, `late-events`, `dead-letters`. Downstream: the report.
Every commit writes a source partition's watermark to all partitions of `metric-partials`, after
the rows that it closes; so a transaction that is seen in part, or one that was aborted and is
seen, shows where partitions tell different stories. Invariants that it finds broken:

- I3: the watermarks of a source partition are the same, in the same order, in every partition.
- I2: they never go back; neither do those in the rows of one metric; a count never falls, and
  what is final is never open again.
- I1: a source offset is in `late-events` or `dead-letters` once; late events are in order (I2).
"""

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from streamgauge.schemas import topics
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.metrics import builtin
from streamgauge.schemas.registry import open_registry

READ = (topics.METRIC_PARTIALS, topics.METRICS, topics.LATE_EVENTS, topics.DEAD_LETTERS)
SHOWN = 20
NONE = -1
"""Before every partition has had an event."""

logger = logging.getLogger(__name__)


class Reader(threading.Thread):
    """Reads until `finish`, which waits for the ends."""

    def __init__(self, kafka: str, registry: str, namespace: str, partitions: int) -> None:
        super().__init__(name="reader", daemon=True)
        self.checks = Checks(partitions, Codec(open_registry(registry)))
        self._consumer = Consumer(
            {
                "bootstrap.servers": kafka,
                "group.id": f"{namespace}-chaos-reader",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "log_level": 0,
            }
        )
        self._by_name = {topics.qualified(namespace, topic.name): topic.name for topic in READ}
        self._consumer.assign(
            [TopicPartition(name, p, 0) for name in self._by_name for p in range(partitions)]
        )
        self._ends: Mapping[tuple[str, int], int] | None = None

    def finish(self, ends: Mapping[tuple[str, int], int], timeout: float = 60.0) -> None:
        """Read up to `ends` and stop; what was not reached is broken."""
        self._ends = {place: end for place, end in ends.items() if place[0] in self._by_name}
        self.join(timeout)
        if self.is_alive():
            self.checks.broken.append(f"the reader did not come to the ends within {timeout:.0f} s")

    def run(self) -> None:
        try:
            self._read()
        except Exception as error:
            logger.exception("the reader failed")
            self.checks.broken.append(f"the reader failed: {error!r}")
        self._consumer.close()

    def _read(self) -> None:
        at: dict[tuple[str, int], int] = {}
        while self._ends is None or any(at.get(place, 0) < e for place, e in self._ends.items()):
            for message in self._consumer.consume(5000, 0.2):
                place = str(message.topic()), message.partition() or 0
                error = message.error()
                if error is None:
                    at[place] = (message.offset() or 0) + 1
                    self.checks.see(self._by_name[place[0]], message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    at[place] = message.offset() or 0
                elif error.code() == KafkaError._AUTO_OFFSET_RESET:
                    raise KafkaException(error)  # rows were gone before they were read
        self.checks.finish()


class Checks:
    """What is known of the rows seen so far; pure but for the schemas."""

    def __init__(self, partitions: int, codec: Codec) -> None:
        self.rows = 0
        self.broken: list[str] = []
        self._decode = codec.decode
        self._partitions = range(partitions)
        #: By source partition: every watermark in order, and how many of them each partition told.
        self._watermarks: dict[int, list[int]] = {}
        self._told: dict[tuple[int, int], int] = {}
        self._metrics: dict[bytes, tuple[int, bool, dict[str, float]]] = {}
        self._letters: set[tuple[str, bytes]] = set()
        self._late: dict[tuple[int, int], int] = {}
        self._counts = {one.name for one in builtin().series() if one.aggregate == "count"}
        self._seers: dict[str, Callable[[Any, bytes, bytes, int], None]] = {
            topics.METRIC_PARTIALS.name: self._partial,
            topics.METRICS.name: self._metric,
            topics.LATE_EVENTS.name: self._letter,
            topics.DEAD_LETTERS.name: self._letter,
        }

    @property
    def watermarks(self) -> int:
        """How many watermarks all partitions agreed about."""
        return sum(map(len, self._watermarks.values()))

    def see(self, topic: str, message: Message) -> None:
        """One committed row."""
        self.rows += 1
        key, value = message.key() or b"", message.value()
        if isinstance(key, bytes) and isinstance(value, bytes):
            self._seers[topic](topic, key, value, message.partition() or 0)

    def finish(self) -> None:
        """No partition may have told less than another."""
        for source, told in self._watermarks.items():
            for partition in self._partitions:
                count = self._told.get((source, partition), 0)
                if count != len(told):
                    self._break(
                        f"I3: metric-partials/{partition} has {count} watermarks of source "
                        f"partition {source}, another has {len(told)}: a torn transaction"
                    )

    def _partial(self, topic: str, key: bytes, value: bytes, partition: int) -> None:
        if not key.endswith(b"|watermark"):
            return
        row = self._decode(value).record
        source, watermark = row["source_partition"], row["watermark"]
        story = self._watermarks.setdefault(source, [])
        place = self._told.get((source, partition), 0)
        self._told[source, partition] = place + 1
        if place < len(story):
            if story[place] != watermark:
                self._break(
                    f"I3: watermark {place} of source partition {source} is {watermark} in "
                    f"metric-partials/{partition}, {story[place]} in another"
                )
            return
        if story and watermark < story[-1]:
            self._break(
                f"I2: the watermark of source partition {source} went back from {story[-1]} to "
                f"{watermark} in metric-partials/{partition}"
            )
        story.append(watermark)

    def _metric(self, topic: str, key: bytes, value: bytes, partition: int) -> None:
        row = self._decode(value).record
        names, numerators = row["metrics"] or (), row["numerators"] or ()
        counts = {
            name: count
            for name, count in zip(names, numerators, strict=True)
            if name in self._counts
        }
        watermark = NONE if row["watermark"] is None else row["watermark"]
        final = bool(row["is_final"])
        if known := self._metrics.get(key):
            before, was_final, had = known
            if watermark < before:
                self._break(f"I2: {key!r} went back from watermark {before} to {watermark}")
            if was_final and not final:
                self._break(f"I2: {key!r} was final and is open again")
            for name, count in had.items():
                if counts.get(name, 0) < count:
                    self._break(f"I2: {name} of {key!r} fell from {count} to {counts.get(name)}")
        self._metrics[key] = watermark, final, counts

    def _letter(self, topic: str, key: bytes, value: bytes, partition: int) -> None:
        if (topic, key) in self._letters:
            self._break(f"I1: {topic} has {key!r} twice")
        self._letters.add((topic, key))
        if topic == topics.LATE_EVENTS.name:  # dead letters of one commit come by their reasons
            _, source, offset = key.decode().rsplit("/", 2)
            place = int(source), partition
            if int(offset) < self._late.get(place, -1):
                self._break(f"I2: {topic} has {key!r} after offset {self._late[place]}")
            self._late[place] = int(offset)

    def _break(self, what: str) -> None:
        if len(self.broken) < SHOWN:
            self.broken.append(what)
