"""What a webhook refused, or did not take in time, as dead letters.

Upstream: `sink.py`. Downstream: the topic `dead-letters`. A letter's topic is
`webhook:<name>/<topic>`, its place that of the record, its payload what was sent. It is no record
of a topic of ours, so `dlq replay` leaves it where it is.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from confluent_kafka import KafkaException, Producer

from streamgauge.schemas.codec import Codec
from streamgauge.schemas.reject import Reject, dead_letter
from streamgauge.schemas.topics import DEAD_LETTERS, qualified
from streamgauge.sinks.errors import Retryable
from streamgauge.sinks.webhook.delivery import Delivery

log = logging.getLogger(__name__)

REFUSED, GIVEN_UP = "webhook_refused", "webhook_given_up"
MAX_PAYLOAD = 900_000
"""Bytes; a record of ours is at most 1 MB."""
_TIMEOUT = 30.0


class Letters:
    """Writes them, and returns when Kafka has them."""

    def __init__(self, kafka: Mapping[str, Any], namespace: str, codec: Codec) -> None:
        self._conf = {**kafka, "enable.idempotence": True, "logger": log}
        self._producer: Producer | None = None
        self._topic = qualified(namespace, DEAD_LETTERS.name)
        self._codec = codec

    def __call__(self, webhook: str, delivery: Delivery, reason: str, said: str) -> None:
        """Keep one."""
        letter = reject(webhook, delivery, reason, said)
        key = f"{letter.topic}/{letter.partition}/{letter.offset}".encode()
        value = self._codec.encode(DEAD_LETTERS.name, dead_letter(letter))
        failed: list[Any] = []

        def told(error: Any, _: Any) -> None:
            if error is not None:
                failed.append(error)

        try:
            producer = self._producer = self._producer or Producer(self._conf)
            producer.produce(self._topic, value, key, on_delivery=told)
            left = producer.flush(_TIMEOUT)
        except (KafkaException, BufferError) as error:
            raise Retryable(f"Kafka took no dead letter: {error}") from error
        if left or failed:
            raise Retryable(f"Kafka took no dead letter: {failed or 'no answer in time'}")


def reject(webhook: str, delivery: Delivery, reason: str, said: str) -> Reject:
    """As dead letters are told."""
    detail = f"{delivery.event} {delivery.key}: {said}"
    if len(delivery.body) > MAX_PAYLOAD:
        detail += f" (payload cut to {MAX_PAYLOAD} of {len(delivery.body)} bytes)"
    return Reject(
        topic=f"webhook:{webhook}/{delivery.topic}",
        partition=delivery.partition,
        offset=delivery.offset,
        reason=reason,
        detail=detail,
        schema_id=None,
        key=delivery.key.encode(),
        payload=delivery.body[:MAX_PAYLOAD],
        append_time=delivery.written_at,
    )
