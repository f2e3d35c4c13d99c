"""Events straight to Kafka, keyed by user; librdkafka compresses and writes idempotently.

Upstream: `sender.py`. Downstream: the topic `events`.

Invariants: every event of a batch has its answer within the timeout. A producer that did not
acknowledge in time is given up, in a thread that nobody waits for, and the next batch gets a new
one with connections of its own: librdkafka has been seen not to find back after a broker's bounce
until its messages timed out after 300 s, and here that can last no longer than one timeout. Events
that were on their way then may be written twice, with the same id, and count once downstream.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from streamgauge.producers import native
from streamgauge.producers.errors import Unavailable
from streamgauge.producers.kafka_batch import Batch, Record
from streamgauge.producers.partitioner import PARTITIONER
from streamgauge.producers.preparation import Ready
from streamgauge.producers.transport import Answer, Refused
from streamgauge.producers.undeclared import is_undeclared, letter, why
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.errors import InvalidEvent, RegistryError, SchemaError
from streamgauge.schemas.events import Event
from streamgauge.schemas.registry import Registry, open_registry
from streamgauge.schemas.topics import DEAD_LETTERS, EVENTS, qualified

POLL_S = 0.05


class KafkaTransport:
    """One librdkafka producer at a time, and one that sends records alone where it has to be."""

    max_batch = 1000
    max_bytes = 4 << 20

    def __init__(
        self,
        kafka: Mapping[str, Any],
        registry: str | Registry,
        namespace: str = "",
        *,
        make_producer: Callable[[dict[str, Any]], Any] = Producer,
    ) -> None:
        self._settings: dict[str, Any] = {
            "enable.idempotence": True,
            "compression.type": "lz4",
            # A batch comes at once and is waited for.
            "linger.ms": 0,
            # After a bounce the next try comes soon.
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1000,
            # The ledger says it, not every refused connection a line.
            "log_level": 0,
            "error_cb": self._met,
            **kafka,
            "partitioner": PARTITIONER,
        }
        self._registry = registry
        self._codec: Codec | None = None
        self._topic = qualified(namespace, EVENTS.name)
        self._dead_letters = qualified(namespace, DEAD_LETTERS.name)
        self._make_producer = make_producer
        self._producers: dict[bool, Any] = {}
        """By whether each of its records travels apart from the others."""
        self._interrupted = False
        self._trouble = ""

    def send(self, events: Sequence[Ready], timeout: float) -> list[Answer]:
        deadline = time.monotonic() + timeout
        batch = Batch(len(events))
        records = self._encoded(events, batch)
        self._write(records, batch, timeout, deadline)
        if crowded := batch.crowded():
            them = [record for record in records if record.at in crowded]
            self._write(them, batch, timeout, deadline, apart=True)
        if batch.waiting or batch.all_timed_out:
            self._give_up()
            if not batch.answered:
                raise Unavailable(
                    f"Kafka acknowledged none of {len(events)} events within {timeout:g} s"
                    f"{batch.why or self._trouble}"
                )
        return list(batch.answers)

    def interrupt(self) -> None:
        self._interrupted = True

    def close(self) -> None:
        self._give_up()

    def abandon(self) -> None:
        for producer in self._producers.values():
            # librdkafka's threads did not survive the fork: even freeing it would wait for them.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(producer))
        self._producers = {}

    def _met(self, error: KafkaError) -> None:
        """What librdkafka has to say of its connections."""
        self._trouble = f": {error.str()}"

    def _encoded(self, events: Sequence[Ready], batch: Batch) -> list[Record]:
        records = []
        try:
            if self._codec is None:
                named = isinstance(self._registry, str)
                registry = open_registry(self._registry) if named else self._registry  # type: ignore[arg-type]
                self._codec = Codec(registry)  # type: ignore[arg-type]
            for at, ready in enumerate(events):
                try:
                    records.append(self._record(at, ready.event, self._codec))
                except InvalidEvent as error:
                    batch.answer(at, Refused("invalid", f"{error.reason}: {error}"))
                except SchemaError as error:
                    batch.answer(at, Refused("schema", str(error)))
        except RegistryError as error:
            raise Unavailable(f"the schema registry: {error}") from error
        return records

    def _record(self, at: int, event: Event, codec: Codec) -> Record:
        if is_undeclared(event):
            kept = letter(event)
            key = f"{kept.topic}/{kept.partition}/{kept.offset}".encode()
            value = codec.encode(DEAD_LETTERS.name, kept)
            return Record(at, self._dead_letters, key, value, Refused("invalid", why(event)))
        return Record(at, self._topic, event.user_key.encode(), codec.encode(EVENTS.name, event))

    def _write(
        self,
        records: Sequence[Record],
        batch: Batch,
        timeout: float,
        deadline: float,
        *,
        apart: bool = False,
    ) -> None:
        """Produce them and wait for what is heard of them."""
        producer = self._open(timeout, apart)
        alone = apart or len(records) == 1
        for record in records:
            self._produce(producer, record, alone, batch, deadline)
        while batch.waiting and time.monotonic() < deadline and not self._interrupted:
            producer.flush(POLL_S)

    def _open(self, timeout: float, apart: bool) -> Any:
        producer = self._producers.get(apart)
        if producer is None:
            # Given up here a moment after us, so that whoever comes first is us.
            self._trouble = ""
            settings = {
                "message.timeout.ms": max(int(timeout * 1000) + 1000, 1000),
                **self._settings,
                **({"batch.num.messages": 1} if apart else {}),
            }
            try:
                producer = self._producers[apart] = self._make_producer(settings)
            except KafkaException as error:
                raise Unavailable(
                    f"librdkafka refused its settings: {error.args[0].str()}"
                ) from error
        return producer

    def _produce(
        self, producer: Any, record: Record, alone: bool, batch: Batch, deadline: float
    ) -> None:
        hear = partial(batch.hear, record, alone)
        while time.monotonic() < deadline and not self._interrupted:
            try:
                producer.produce(record.topic, record.value, record.key, on_delivery=hear)
            except BufferError:  # librdkafka's own queue, smaller than the batch
                producer.poll(POLL_S)
                continue
            except KafkaException as error:
                hear(error.args[0], None)
                if error.args[0].fatal():
                    self._give_up()
            return

    def _give_up(self) -> None:
        """Let the producers go. They may wait for threads of their own; we do not."""
        producers, self._producers = self._producers, {}
        for producer in producers.values():
            try:
                native.start_thread(partial(_end, producer))
            except RuntimeError:  # the interpreter is ending
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(producer))


def _end(producer: Any) -> None:
    producer.purge()
    producer.flush(1.0)
