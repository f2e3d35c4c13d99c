"""Records straight to Kafka: what is encoded already, or is encoded in the caller.

Upstream: `files.py`, the simulator, benchmarks; an application's own events go through
`client.py`, which spools, retries and never encodes in its caller. Downstream: the topic `events`,
keyed by user_id or anonymous_id; librdkafka does batching, compression and retries.

Invariants: no record vanishes silently. One that finds the queue full waits, then raises
QueueFull; one that Kafka never acknowledged is counted in `stats.failed` and logged, and close()
raises Undelivered when time ran out. After a fork the child's first call makes it a producer of its
own; what the parent had queued stays the parent's.
"""

from __future__ import annotations

import atexit
import ctypes
import logging
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streamgauge.producers.errors import (
    ClientClosed,
    EventTooLarge,
    QueueFull,
    SendRefused,
    Undelivered,
)
from streamgauge.producers.partitioner import PARTITIONER
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.events import Event
from streamgauge.schemas.records import DeadLetter
from streamgauge.schemas.registry import Registry, open_registry
from streamgauge.schemas.topics import DEAD_LETTERS, EVENTS, qualified

logger = logging.getLogger(__name__)

POLL_S = 0.1
CLOSE_S = 30.0


@dataclass(frozen=True, kw_only=True)
class RecordStats:
    """What became of the records: produced = acknowledged + failed + still outstanding."""

    produced: int = 0
    acknowledged: int = 0
    failed: int = 0


class RecordProducer:
    """Sends records. One per process is enough; all threads may use it."""

    def __init__(
        self,
        kafka: str | Mapping[str, Any],
        registry: str | Registry,
        namespace: str = "",
        *,
        max_queue: int = 100_000,
        block_ms: int = 10_000,
        **librdkafka: Any,
    ) -> None:
        """`kafka` is an address or librdkafka's settings; more of them with _ instead of dots."""
        settings = {"bootstrap.servers": kafka} if isinstance(kafka, str) else dict(kafka)
        self._settings: dict[str, Any] = {
            "enable.idempotence": True,
            "compression.type": "lz4",
            "linger.ms": 20,
            "queue.buffering.max.messages": max_queue,
            **settings,
            **{_dotted(name): value for name, value in librdkafka.items()},
            "partitioner": PARTITIONER,
        }
        self.registry = open_registry(registry) if isinstance(registry, str) else registry
        self.topic = qualified(namespace, EVENTS.name)
        self._dead_letters = qualified(namespace, DEAD_LETTERS.name)
        self._codec = Codec(self.registry)
        self._block_s = block_ms / 1000
        self._closed = False
        self._produced = self._acked = self._failed = 0
        self._start()
        atexit.register(self._close_at_exit)

    def send_event(self, event: Event) -> None:
        """Queue an event; raises InvalidEvent, QueueFull, EventTooLarge, SendRefused."""
        self._produce(self.topic, event.user_key.encode(), self._codec.encode(EVENTS.name, event))

    def send(self, key: bytes, value: bytes) -> None:
        """Queue a record of `events` that is encoded already; nothing about it is checked."""
        self._produce(self.topic, key, value)

    def send_dead_letter(self, letter: DeadLetter) -> None:
        """Queue what could not become an event, so that it is kept."""
        self._produce(
            self._dead_letters,
            f"{letter.topic}/{letter.partition}/{letter.offset}".encode(),
            self._codec.encode(DEAD_LETTERS.name, letter),
        )

    def partitions(self, timeout: float = 10.0) -> int:
        """How many partitions the topic of events has."""
        self._own()
        try:
            metadata = self._producer.list_topics(self.topic, timeout).topics[self.topic]
        except KafkaException as error:
            raise SendRefused(
                f"Kafka did not answer: {error.args[0].str()}", retryable=True
            ) from error
        if metadata.error is not None:
            raise SendRefused(
                f"there is no topic {self.topic}: {metadata.error.str()}. Create the topics first.",
                retryable=metadata.error.retriable(),
            )
        return len(metadata.partitions)

    def flush(self, timeout: float = 10.0) -> int:
        """Wait until Kafka has acknowledged everything; returns how many records it has not."""
        self._own()
        return int(self._producer.flush(timeout))

    def close(self, timeout: float = CLOSE_S) -> None:
        """Flush and stop; raises Undelivered when not everything was acknowledged in time."""
        if self._closed or self._pid != os.getpid():
            return
        with self._lock:
            self._closed = True
        atexit.unregister(self._close_at_exit)
        outstanding = int(self._producer.flush(timeout))
        if outstanding:
            self._producer.purge()
            self._producer.flush(1.0)  # tells each of them to its callback
        if threading.current_thread() is not self._poller:
            self._poller.join()
        if outstanding:
            raise Undelivered(outstanding)

    @property
    def stats(self) -> RecordStats:
        """The counts so far."""
        with self._lock:
            return RecordStats(
                produced=self._produced,
                acknowledged=self._acked,
                failed=self._failed,
            )

    def __enter__(self) -> RecordProducer:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _start(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._producer = Producer(self._settings)
        self._poller = threading.Thread(target=self._poll, name="streamgauge-records", daemon=True)
        self._poller.start()

    def _own(self) -> None:
        """In a forked child: leave the parent's producer alone and start another."""
        if self._closed:
            raise ClientClosed("the producer is closed: make a new one")
        if self._pid != os.getpid():
            # librdkafka's threads did not survive the fork: even freeing it would wait for them.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._producer))
            self._produced = self._acked = self._failed = 0
            self._start()

    def _poll(self) -> None:
        while not self._closed:
            self._producer.poll(POLL_S)

    def _produce(self, topic: str, key: bytes, value: bytes) -> None:
        self._own()
        deadline = time.monotonic() + self._block_s
        while not self._queued(topic, key, value):
            if time.monotonic() >= deadline:
                raise QueueFull(
                    f"the queue of {self._settings['queue.buffering.max.messages']} events stayed "
                    f"full for {self._block_s:g} s: Kafka is unreachable or slower than the "
                    "events come. Try again later; this event was not taken."
                )
            self._producer.poll(min(POLL_S, self._block_s))

    def _queued(self, topic: str, key: bytes, value: bytes) -> bool:
        """Whether the queue had room for the record."""
        with self._lock:
            if self._closed:
                raise ClientClosed("the producer was closed meanwhile: make a new one")
            try:
                self._producer.produce(topic, value, key, on_delivery=self._acknowledged)
            except BufferError:
                return False
            except KafkaException as error:
                raise _refused(error.args[0], len(value)) from error
            self._produced += 1
        return True

    def _acknowledged(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            with self._lock:
                self._acked += 1
        else:
            with self._lock:
                self._failed += 1
            logger.error("a record for %s was lost: %s", message.topic(), error.str())

    def _close_at_exit(self) -> None:
        try:
            self.close()
        except Undelivered as error:
            logger.error("at exit: %s", error)


def _dotted(name: str) -> str:
    """librdkafka's name of a setting; one of them has an underscore itself."""
    return name if name == "log_level" else name.replace("_", ".")


def _refused(error: KafkaError, size: int) -> Exception:
    if error.code() == KafkaError.MSG_SIZE_TOO_LARGE:
        return EventTooLarge(
            f"an event of {size} bytes is larger than message.max.bytes allows: shorten it"
        )
    if error.fatal():
        return ClientClosed(f"{error.str()}: the producer cannot go on, make a new client")
    return SendRefused(f"the event was not taken: {error.str()}", retryable=error.retriable())
