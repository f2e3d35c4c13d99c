"""How far each consumer group is behind, partition by partition, from the broker alone.

Upstream: `state`, `status`, the demo's view and its brake. Works on the embedded broker too.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from confluent_kafka import Consumer, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from streamgauge.cli.groups import apart_from
from streamgauge.schemas.topics import qualified

RETRY_PAUSE = 0.1

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where a group stands in a partition; `committed` is None before its first commit."""

    group: str
    topic: str
    partition: int
    committed: int | None
    end: int
    metadata: str = ""

    @property
    def lag(self) -> int:
        return self.end - (self.committed or 0)


GROUPS = {
    "worker": ("events", "metric-partials"),
    "sink-postgres": ("metrics", "dead-letters", "late-events", "events"),
    "sink-redis": ("metrics",),
    "sink-archive": ("events",),
}
"""What each consumer group reads."""


class Broker:
    """Reads ends of partitions and committed offsets."""

    def __init__(self, kafka: str, timeout: float = 10.0) -> None:
        self._conf: dict[str, Any] = {"bootstrap.servers": kafka, "log_level": 0}
        self._admin = AdminClient(self._conf)
        self._askers: dict[str, Consumer] = {}
        self._timeout = timeout

    def topics(self, *, internal: bool = False) -> dict[str, list[int]]:
        """Partitions by topic, the broker's own (`internal`) left out."""
        found = self._admin.list_topics(timeout=self._timeout).topics
        return {
            name: sorted(topic.partitions)
            for name, topic in found.items()
            if (internal or not name.startswith("__")) and topic.error is None
        }

    def cluster(self) -> str:
        """The cluster's id; fails when the broker does not answer."""
        return str(self._admin.list_topics(timeout=self._timeout).cluster_id)

    def ends(
        self, topics: Iterable[str], *, earliest: bool = False, stable: bool = False
    ) -> dict[tuple[str, int], int]:
        """Offset after the last record of each partition (or of the first one that is kept).

        `stable`: where the first transaction that is still open begins, if there is one.
        """
        present = self.topics(internal=True)
        spec = OffsetSpec.earliest() if earliest else OffsetSpec.latest()
        wanted = {
            TopicPartition(name, number): spec
            for name in topics
            for number in present.get(name, [])
        }
        if not wanted:
            return {}

        def ask() -> dict[tuple[str, int], int]:
            futures = self._admin.list_offsets(
                wanted,
                isolation_level=IsolationLevel.READ_COMMITTED
                if stable
                else IsolationLevel.READ_UNCOMMITTED,
                request_timeout=self._timeout,
            )
            return {(at.topic, at.partition): it.result().offset for at, it in futures.items()}

        return self._patiently(ask)

    def positions(self, namespace: str, what: str) -> list[Position]:
        """Where the `worker` or a sink stands in every partition it reads."""
        group = qualified(namespace, f"streamgauge-{what}")
        ends = self.ends(qualified(namespace, topic) for topic in GROUPS[what])
        if not ends:
            return []
        found = self._positions(group, ends)
        unread = {topic for topic, _ in ends} - {
            at.topic for at in found if at.committed is not None
        }
        if what == "worker" and unread:  # by this group; agents may run apart
            for part in apart_from(self._admin, group):
                theirs = [at for at in self._positions(part, ends) if at.committed is not None]
                read = {(at.topic, at.partition): at for at in theirs if at.topic in unread}
                found = [read.get((at.topic, at.partition), at) for at in found]
        return found

    def _positions(self, group: str, ends: Mapping[tuple[str, int], int]) -> list[Position]:
        # Not by the AdminClient: a coordinator that is still loading makes it crash the process
        # (librdkafka up to 2.16 takes itself for a consumer there).
        asker = self._askers.get(group)
        if asker is None:
            # What was committed last, at once: read_committed would wait for a transaction that is
            # open to say whether there is something newer.
            conf = {**self._conf, "group.id": group, "isolation.level": "read_uncommitted"}
            asker = self._askers[group] = Consumer(conf)
        asked = [TopicPartition(*at) for at in ends]
        found = self._patiently(lambda: asker.committed(asked, timeout=self._timeout))
        return [
            Position(
                group=group,
                topic=at.topic,
                partition=at.partition,
                committed=at.offset if at.offset >= 0 else None,
                end=ends[at.topic, at.partition],
                metadata=at.metadata or "",
            )
            for at in sorted(found)
        ]

    def delete_before(self, offsets: Mapping[tuple[str, int], int]) -> None:
        """Delete the records below these offsets."""
        asked = [TopicPartition(*at, offset) for at, offset in offsets.items()]
        for future in self._admin.delete_records(asked, request_timeout=self._timeout).values():
            future.result()

    def _patiently(self, ask: Callable[[], T]) -> T:
        """The answer, asked for again while partitions and coordinators find their leaders."""
        deadline = time.monotonic() + self._timeout
        while True:
            try:
                return ask()
            except KafkaException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(RETRY_PAUSE)
