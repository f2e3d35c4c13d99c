"""Faust's producer: whatever an agent or a timer sends joins the current transaction."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from typing import Any, cast

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic
from faust.streams import current_event
from faust.transport.producer import Producer as FaustProducer
from faust.types import TP, RecordMetadata

from streamgauge.streams.engine.engine import Engine

logger = logging.getLogger(__name__)


class Producer(FaustProducer):
    """Sends in the transaction that the consumer's barriers commit."""

    @property
    def _engine(self) -> Engine:
        return cast(Engine, self.app.engine)  # type: ignore[attr-defined]

    def supports_headers(self) -> bool:
        return True

    async def flush(self) -> None:
        """The barrier flushes."""

    async def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: Any,
        *,
        transactional_id: str | None = None,
    ) -> Awaitable[RecordMetadata]:
        """Add to the transaction; the future is done once the broker has the row.

        Not yet committed then: a read_committed reader sees it after the next barrier.
        """
        engine, loop = self._engine, asyncio.get_running_loop()
        future: asyncio.Future[RecordMetadata] = loop.create_future()

        def delivered(error: KafkaError | None, message: Any) -> None:
            engine.transaction._delivered(error, message)
            loop.call_soon_threadsafe(_settle, future, error, message)

        pairs = list(headers.items()) if isinstance(headers, Mapping) else headers
        where = -1 if partition is None else partition
        if current_event() is None:
            async with engine.producing:
                engine.unattached.append((topic, key, value, where, pairs))
                engine.transaction.send(topic, key, value, where, pairs, delivered)
        else:  # in an agent: the barrier waits for it
            engine.transaction.send(topic, key, value, where, pairs, delivered)
        return future

    async def send_and_wait(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int | None,
        timestamp: float | None,
        headers: Any,
        *,
        transactional_id: str | None = None,
    ) -> RecordMetadata:
        """Send; the row is on its way, and durable once the barrier has committed."""
        await self.send(topic, key, value, partition, timestamp, headers)
        return RecordMetadata(topic, partition or 0, TP(topic, partition or 0), -1)

    async def create_topic(
        self,
        topic: str,
        partitions: int,
        replication: int,
        *,
        config: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Create a topic that an app declares; one that exists stays as it is."""
        settings = {key: str(value) for key, value in (config or {}).items()}
        if options.get("compacting"):
            settings.setdefault("cleanup.policy", "compact")
        admin = AdminClient(dict(self._engine.kafka))
        new = NewTopic(topic, partitions or 1, replication or 1, config=settings)
        future = admin.create_topics([new])[topic]
        try:
            await asyncio.to_thread(future.result, 30)
        except KafkaException as exc:
            if exc.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                logger.warning("topic %s was not created: %s", topic, exc.args[0].str())

    def key_partition(self, topic: str, key: bytes) -> TP:
        raise NotImplementedError("librdkafka partitions by key; pass a partition to choose one")


def _settle(future: asyncio.Future[RecordMetadata], error: KafkaError | None, message: Any) -> None:
    if future.done():
        return
    if error is not None:
        future.set_exception(KafkaException(error))
        future.exception()  # nobody has to look: the barrier fails by itself
        return
    tp = TP(message.topic(), message.partition())
    future.set_result(RecordMetadata(tp.topic, tp.partition, tp, message.offset()))
