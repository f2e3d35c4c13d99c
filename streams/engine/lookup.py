"""What restoring has to ask the cluster: ends of partitions, and which topics these are.

Upstream: Kafka's admin API, by one client that is kept. Downstream: `restore.py`. A topic that was
deleted and made anew has another id, whatever its name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from confluent_kafka import (
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

Place = tuple[str, int]
TIMEOUT = 20.0  # seconds


class Lookup:
    """Asks; may be used from several threads."""

    def __init__(self, kafka: Mapping[str, Any]) -> None:
        self._kafka = kafka

    @cached_property
    def _admin(self) -> AdminClient:
        return AdminClient(dict(self._kafka))

    def starts(self, places: Iterable[Place]) -> dict[Place, int]:
        """First offset that is held."""
        return self._offsets(places, OffsetSpec.earliest())

    def ends(self, places: Iterable[Place]) -> dict[Place, int]:
        """The high watermark, not the last stable offset."""
        return self._offsets(places, OffsetSpec.latest())

    def stable_ends(self, places: Iterable[Place]) -> dict[Place, int]:
        """The last stable offset: an open transaction begins there, if it is not the end."""
        return self._offsets(places, OffsetSpec.latest(), IsolationLevel.READ_COMMITTED)

    def cluster(self) -> str:
        return str(self._admin.list_topics(timeout=TIMEOUT).cluster_id)

    def ids(self, topics: Iterable[str]) -> dict[str, str]:
        """Of the topics that are there."""
        asked = TopicCollection(sorted(set(topics)))
        found = {}
        for name, future in self._admin.describe_topics(asked, request_timeout=TIMEOUT).items():
            if (description := _unless_missing(future)) is not None:
                found[name] = str(description.topic_id)
        return found

    def _offsets(
        self,
        places: Iterable[Place],
        spec: OffsetSpec,
        isolation: IsolationLevel = IsolationLevel.READ_UNCOMMITTED,
    ) -> dict[Place, int]:
        asked = {TopicPartition(topic, partition): spec for topic, partition in places}
        if not asked:
            return {}
        # librdkafka asks by the leader epochs it knows, and does not learn from being fenced: after
        # a bounce of the broker every answer would be FENCED_LEADER_EPOCH.
        self._admin.list_topics(timeout=TIMEOUT)
        futures = self._admin.list_offsets(
            asked, isolation_level=isolation, request_timeout=TIMEOUT
        )
        found = {}
        for tp, future in futures.items():
            if (result := _unless_missing(future)) is not None:
                found[tp.topic, tp.partition] = result.offset
        return found


def _unless_missing(future: Any) -> Any:
    try:
        return future.result()
    except KafkaException as exc:
        if exc.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise
        return None
