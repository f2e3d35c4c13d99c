"""Reads topics read_committed and asks where groups are, as a member of no group.

Upstream: any Kafka. Downstream: the raw records, the observed topics and the waiting. Invariants:
nothing is committed; records of a partition come in offset order; what the broker has already
deleted is an error, never a gap.
"""

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from streamgauge.cli.groups import apart_from
from streamgauge.cli.verify.errors import CutNotCoveredError, NotReachedError

_ANSWER = 30.0
"""Seconds the broker has for an answer."""

Offsets = Mapping[int, int]
"""Partition → offset."""

_COORDINATOR = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
)
_SETTINGS = {
    "enable.auto.commit": False,
    "enable.partition.eof": True,
    "isolation.level": "read_committed",
    "auto.offset.reset": "error",
    "fetch.queue.backoff.ms": 5,
    "fetch.wait.max.ms": 50,  # so long the end of a partition takes to be told
    "queued.max.messages.kbytes": 65_536,
}


class Log:
    """The topics of one Kafka; `patience` is how many seconds a read may stand still."""

    def __init__(self, kafka: Mapping[str, Any], patience: float = 30.0) -> None:
        self._kafka, self._conf = dict(kafka), {**kafka, **_SETTINGS}
        self._patience = max(patience, _ANSWER / 3)
        self._consumer = Consumer({**self._conf, "group.id": f"streamgauge-verify-{uuid.uuid4()}"})

    def close(self) -> None:
        """Let go of the connections."""
        self._consumer.close()

    def exists(self, topic: str) -> bool:
        """Whether the topic is there; asking must not create it."""
        return topic in self._consumer.list_topics(timeout=_ANSWER).topics

    def bounds(self, topic: str) -> tuple[dict[int, int], dict[int, int]]:
        """First offsets that are held, and the ends of what is committed."""
        partitions = self._consumer.list_topics(topic, timeout=_ANSWER).topics[topic]
        if partitions.error is not None:
            raise CutNotCoveredError(
                f"topic {topic}: {partitions.error.str()}; is the namespace right?"
            )
        starts, ends = {}, {}
        for partition in sorted(partitions.partitions):
            starts[partition], ends[partition] = self._consumer.get_watermark_offsets(
                TopicPartition(topic, partition), timeout=_ANSWER
            )
        return starts, ends

    def read(self, topic: str, begin: Offsets, end: Offsets) -> Iterator[list[Message]]:
        """Committed records from `begin` up to `end`, in chunks."""
        unread = {p for p, last in end.items() if begin.get(p, 0) < last}
        self._consumer.assign([TopicPartition(topic, p, begin.get(p, 0)) for p in sorted(unread)])
        heard = time.monotonic()
        while unread:
            chunk = []
            for message in self._consumer.consume(20_000, 0.05):
                partition, offset = message.partition() or 0, message.offset() or 0
                if error := message.error():
                    _refuse(error, topic, partition)
                    if offset >= end[partition]:  # only markers of transactions were left
                        unread.discard(partition)
                    continue
                heard = time.monotonic()
                if offset < end[partition]:
                    chunk.append(message)
                if offset >= end[partition] - 1:
                    unread.discard(partition)
            if chunk:
                yield chunk
            elif unread and time.monotonic() - heard > self._patience:
                raise NotReachedError(
                    f"{topic}: nothing to read before {_named(end, unread)} for "
                    f"{self._patience:.0f} s: does a transaction stay open, or is the cut beyond "
                    "the end of the topic?"
                )
        self._consumer.unassign()

    def is_whole(self, topic: str) -> bool:
        """Whether the broker has deleted nothing of it (compaction deletes nothing that counts)."""
        starts, _ = self.bounds(topic)
        return not any(starts.values())

    def last_values(self, topic: str) -> dict[bytes | None, bytes]:
        """The value that each key has now; tombstones leave none."""
        values: dict[bytes | None, bytes] = {}
        starts, ends = self.bounds(topic)
        for chunk in self.read(topic, starts, ends):
            for message in chunk:
                value = message.value()
                if value is None:
                    values.pop(message.key(), None)
                else:
                    values[message.key()] = value
        return values

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """How far a group is in each partition: the next offset it will read.

        Where it never read the topic, those do that run some of its agents.
        """
        starts, _ = self.bounds(topic)
        found = self._committed(group, topic, starts)
        if max(found.values(), default=0) < 0:
            for part in apart_from(AdminClient(self._kafka), group):
                others = self._committed(part, topic, starts)
                found = {partition: max(at, others[partition]) for partition, at in found.items()}
        return {partition: max(at, starts[partition]) for partition, at in found.items()}

    def _committed(self, group: str, topic: str, partitions: Offsets) -> dict[int, int]:
        asker = Consumer({**self._conf, "group.id": group})
        try:
            asked = [TopicPartition(topic, partition) for partition in partitions]
            found = _patiently(lambda: asker.committed(asked, timeout=_ANSWER))
        finally:
            asker.close()
        return {tp.partition: tp.offset for tp in found}

    def remaining(self, topic: str, positions: Offsets, cut: Offsets) -> int:
        """Records from `positions` up to the cut; markers of transactions are none."""
        begin = {p: positions.get(p, 0) for p, end in cut.items() if positions.get(p, 0) < end}
        return sum(len(chunk) for chunk in self.read(topic, begin, {p: cut[p] for p in begin}))


def _patiently(ask: Callable[[], list[TopicPartition]]) -> list[TopicPartition]:
    """An answer about a group, once its coordinator is found and has loaded."""
    deadline = time.monotonic() + _ANSWER
    while True:
        try:
            return ask()
        except KafkaException as error:
            if error.args[0].code() not in _COORDINATOR or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def _refuse(error: KafkaError, topic: str, partition: int) -> None:
    if error.code() == KafkaError._PARTITION_EOF:
        return
    if error.code() == KafkaError._AUTO_OFFSET_RESET:
        raise CutNotCoveredError(
            f"{topic}/{partition}: the broker has deleted records that the cut needs; "
            "verify against the archive instead (--archive)"
        )
    raise KafkaException(error)


def _named(end: Offsets, partitions: set[int]) -> str:
    return ", ".join(f"{p}/{end[p]}" for p in sorted(partitions))
