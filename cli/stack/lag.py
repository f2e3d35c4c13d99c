"""How far each consumer group is behind, partition by partition, from the broker alone.

Upstream: `state`, `status`, the demo's view and its brake. Works on the embedded broker too.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from confluent_kafka import ConsumerGroupTopicPartitions, IsolationLevel, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from streamgauge.schemas.topics import qualified


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


class Broker:
    """Reads ends of partitions and committed offsets."""

    def __init__(self, kafka: str, timeout: float = 10.0) -> None:
        self._admin = AdminClient({"bootstrap.servers": kafka, "log_level": 0})
        self._timeout = timeout

    def topics(self) -> dict[str, list[int]]:
        """Partitions by topic, the broker's own left out."""
        found = self._admin.list_topics(timeout=self._timeout).topics
        return {
            name: sorted(topic.partitions)
            for name, topic in found.items()
            if not name.startswith("__") and topic.error is None
        }

    def cluster(self) -> str:
        """The cluster's id; fails when the broker does not answer."""
        return str(self._admin.list_topics(timeout=self._timeout).cluster_id)

    def ends(self, topics: Iterable[str], *, earliest: bool = False) -> dict[tuple[str, int], int]:
        """Offset after the last record of each partition (or of the first one that is kept)."""
        present = self.topics()
        spec = OffsetSpec.earliest() if earliest else OffsetSpec.latest()
        wanted = {
            TopicPartition(name, number): spec
            for name in topics
            for number in present.get(name, [])
        }
        if not wanted:
            return {}
        futures = self._admin.list_offsets(
            wanted,
            isolation_level=IsolationLevel.READ_UNCOMMITTED,
            request_timeout=self._timeout,
        )
        return {(at.topic, at.partition): found.result().offset for at, found in futures.items()}

    def positions(self, group: str, topics: Sequence[str]) -> list[Position]:
        """Where a group stands in every partition of the topics that exist."""
        ends = self.ends(topics)
        if not ends:
            return []
        asked = [TopicPartition(*at) for at in ends]
        (future,) = self._admin.list_consumer_group_offsets(
            [ConsumerGroupTopicPartitions(group, asked)], request_timeout=self._timeout
        ).values()
        return [
            Position(
                group=group,
                topic=at.topic,
                partition=at.partition,
                committed=at.offset if at.offset >= 0 else None,
                end=ends[at.topic, at.partition],
                metadata=at.metadata or "",
            )
            for at in sorted(future.result().topic_partitions)
        ]


def group_name(namespace: str, what: str) -> str:
    """The consumer group of the `worker` or of a sink (`sink-postgres`, ...)."""
    return qualified(namespace, f"streamgauge-{what}")


# What each group reads.
READS = {
    "worker": ("events", "metric-partials"),
    "sink-postgres": ("metrics", "dead-letters", "late-events"),
    "sink-redis": ("metrics",),
    "sink-archive": ("events",),
}
