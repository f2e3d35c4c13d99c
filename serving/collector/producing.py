"""Records to Kafka, and what became of each: librdkafka's producers, served by the event loop.

Upstream: `delivery.py`. Downstream: librdkafka (idempotent, all in-sync replicas); its callbacks
come by `_serve`, a timer that turns while anything is outstanding.

Invariants: every record produced is heard of within ack_seconds. Kafka refuses a batch as a whole,
so a record that is too large for its topic is refused for good only after it was sent apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streamgauge.producers.partitioner import PARTITIONER
from streamgauge.schemas.topics import DEAD_LETTERS, EVENTS, qualified
from streamgauge.serving.collector.errors import CollectorError
from streamgauge.serving.collector.intake import Record

SERVE_S = 0.002
IDLE_S = 0.5
QUEUE_MESSAGES = 200_000
QUEUE_KBYTES = 128 << 10

TOO_LARGE = KafkaError.MSG_SIZE_TOO_LARGE
REFUSED = frozenset({TOO_LARGE, KafkaError.INVALID_RECORD})
"""Sending these again is no help."""

Failed = dict[int, KafkaError | None]
"""Records that are not in Kafka, by their place, with the reason; None: there was no room."""


def refused(error: KafkaError | None) -> bool:
    """Whether Kafka will never take it."""
    return error is not None and error.code() in REFUSED


class Producing:
    """Used in one event loop, from `start` to `close`."""

    def __init__(
        self,
        kafka: str,
        namespace: str,
        *,
        ack_seconds: float,
        on_error: Callable[[KafkaError], None],
    ) -> None:
        self._topics = {
            topic.name: qualified(namespace, topic.name) for topic in (EVENTS, DEAD_LETTERS)
        }
        self._settings: dict[str, Any] = {
            "bootstrap.servers": kafka,
            "enable.idempotence": True,
            "acks": "all",
            "compression.type": "lz4",
            "linger.ms": 5,
            "message.timeout.ms": int(ack_seconds * 1000),
            "queue.buffering.max.messages": QUEUE_MESSAGES,
            "queue.buffering.max.kbytes": QUEUE_KBYTES,
            "reconnect.backoff.max.ms": 1000,
            "allow.auto.create.topics": False,
            "partitioner": PARTITIONER,
            "error_cb": on_error,
            "log_level": 0,
        }
        self._together = Producer(self._settings)
        self._apart: Any = None
        self._serving: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin to serve callbacks."""
        self._loop = asyncio.get_running_loop()
        self._idle = True
        self._serving = self._loop.call_later(IDLE_S, self._serve)

    def check(self, timeout: float) -> KafkaError | None:
        """Why Kafka cannot be reached, if so; raises a CollectorError where a topic is missing."""
        for topic in self._topics.values():
            try:
                found = self._together.list_topics(topic, timeout)
            except KafkaException as error:
                return error.args[0]  # type: ignore[no-any-return]
            missing = found.topics[topic].error
            if missing is not None:
                raise CollectorError(
                    f"there is no topic {topic}: {missing.str()}."
                    " Create the topics first: streamgauge topics create"
                )
        return None

    def ask(self) -> None:
        """Returns when Kafka answers; else raises KafkaException. Blocks."""
        self._together.list_topics(self._topics[EVENTS.name], 2.0)

    @property
    def outstanding(self) -> int:
        """Records that are not heard of yet."""
        return len(self._together) + (len(self._apart) if self._apart is not None else 0)

    async def send(self, records: Sequence[Record]) -> Failed:
        """Produce and wait."""
        failed = await self._sent(self._together, records)
        crowded = [at for at, error in failed.items() if error and error.code() == TOO_LARGE]
        if crowded:
            if self._apart is None:
                self._apart = Producer({**self._settings, "batch.num.messages": 1})
            again = await self._sent(self._apart, [records[at] for at in crowded])
            for place, at in enumerate(crowded):
                del failed[at]
                if place in again:
                    failed[at] = again[place]
        return failed

    async def close(self, seconds: float) -> None:
        """Wait so long for what is outstanding."""
        deadline = self._loop.time() + seconds
        while self.outstanding and self._loop.time() < deadline:
            await asyncio.sleep(0.01)
        if self._serving is not None:
            self._serving.cancel()

    async def _sent(self, producer: Any, records: Sequence[Record]) -> Failed:
        request = _Request(self._loop.create_future())
        failed: Failed = {}
        produce, topics, delivered = producer.produce, self._topics, request.delivered
        for at, record in enumerate(records):
            try:
                produce(topics[record.topic], record.value, record.key, on_delivery=delivered)
                request.left += 1
            except BufferError:
                failed |= dict.fromkeys(range(at, len(records)))
                break
            except KafkaException as error:
                failed[at] = error.args[0]
        request.done()
        self._serve_soon()
        await request.resolved
        if values := request.failed:
            failed |= {at: values[r.value] for at, r in enumerate(records) if r.value in values}
        return failed

    def _serve_soon(self) -> None:
        if self._idle and self._serving is not None:
            self._serving.cancel()
            self._idle = False
            self._serving = self._loop.call_later(SERVE_S, self._serve)

    def _serve(self) -> None:
        self._together.poll(0)
        if self._apart is not None:
            self._apart.poll(0)
        self._idle = not self.outstanding
        self._serving = self._loop.call_later(IDLE_S if self._idle else SERVE_S, self._serve)


class _Request:
    """The records of one request that are on their way."""

    __slots__ = ("failed", "left", "resolved")

    def __init__(self, resolved: asyncio.Future[None]) -> None:
        self.left = 1  # the sender itself, until it has produced them all
        self.failed: dict[bytes, KafkaError] = {}  # by value
        self.resolved = resolved

    def delivered(self, error: KafkaError | None, message: Message) -> None:
        if error is not None:
            self.failed[message.value() or b""] = error
        self.done()

    def done(self) -> None:
        self.left -= 1
        if not self.left and not self.resolved.done():
            self.resolved.set_result(None)
