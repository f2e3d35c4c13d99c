"""Which log a topic is: the ids of its cluster and of itself.

Upstream: the session, at each assignment. Downstream: fences. A topic that was deleted and made
again under its name has another id, and its offsets begin at 0.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

from streamgauge.sinks.errors import Retryable
from streamgauge.sinks.sink import Log

_TIMEOUT = 10.0

# The broker will not say, today or tomorrow: older than topic ids, or not allowed.
_NEVER = {
    KafkaError._UNSUPPORTED_FEATURE,
    KafkaError.UNSUPPORTED_VERSION,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}


class Logs:
    """Asks the broker."""

    def __init__(self, conf: Mapping[str, Any]) -> None:
        self._admin = AdminClient({**conf, "log_level": 0})  # the consumer tells as much

    def of(self, topics: Collection[str]) -> dict[str, Log]:
        """The logs of topics, by their names on the broker."""
        if not topics:
            return {}
        try:
            cluster = self._admin.list_topics(timeout=_TIMEOUT).cluster_id or ""
        except KafkaException as error:
            raise Retryable(f"Kafka: {error.args[0].str()}") from error
        ids = dict.fromkeys(topics, "")
        if not cluster.startswith("mockCluster"):  # librdkafka's: it never answers this
            ids = self._topic_ids(topics)
        return {topic: Log(cluster_id=cluster, topic_id=ids[topic]) for topic in topics}

    def _topic_ids(self, topics: Collection[str]) -> dict[str, str]:
        asked = self._admin.describe_topics(TopicCollection(list(topics)), request_timeout=_TIMEOUT)
        ids = {}
        for topic, answer in asked.items():
            try:
                ids[topic] = str(answer.result().topic_id)
            except KafkaException as error:
                if error.args[0].code() not in _NEVER:
                    raise Retryable(f"Kafka: {topic}: {error.args[0].str()}") from error
                ids[topic] = ""
        return ids
