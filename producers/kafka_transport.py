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

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from streamgauge.producers import native
from streamgauge.producers.errors import Unavailable
from streamgauge.producers.partitioner import PARTITIONER
from streamgauge.producers.preparation import Ready
from streamgauge.producers.transport import Again, Answer, Delivered, Refused
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.errors import InvalidEvent, RegistryError, SchemaError
from streamgauge.schemas.registry import Registry, open_registry
from streamgauge.schemas.topics import EVENTS, qualified

POLL_S = 0.05

REFUSALS = {
    KafkaError.MSG_SIZE_TOO_LARGE: "too_large",
    KafkaError.RECORD_LIST_TOO_LARGE: "too_large",
    KafkaError.INVALID_RECORD: "rejected",
    KafkaError.INVALID_MSG: "rejected",
}
"""Errors that sending again does not mend."""


class KafkaTransport:
    """One librdkafka producer at a time."""

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
        self._make_producer = make_producer
        self._producer: Any = None
        self._interrupted = False
        self._trouble = ""

    def send(self, events: Sequence[Ready], timeout: float) -> list[Answer]:
        deadline = time.monotonic() + timeout
        batch = _Batch(len(events))
        records = self._encoded(events, batch)
        producer = self._open(timeout)
        for at, key, value in records:
            self._produce(producer, at, key, value, batch, deadline)
        while batch.waiting and time.monotonic() < deadline and not self._interrupted:
            producer.flush(POLL_S)
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
        if self._producer is not None:
            # librdkafka's threads did not survive the fork: even freeing it would wait for them.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._producer))
        self._producer = None

    def _met(self, error: KafkaError) -> None:
        """What librdkafka has to say of its connections."""
        self._trouble = f": {error.str()}"

    def _encoded(self, events: Sequence[Ready], batch: _Batch) -> list[tuple[int, bytes, bytes]]:
        records = []
        try:
            if self._codec is None:
                named = isinstance(self._registry, str)
                registry = open_registry(self._registry) if named else self._registry  # type: ignore[arg-type]
                self._codec = Codec(registry)  # type: ignore[arg-type]
            for at, ready in enumerate(events):
                try:
                    value = self._codec.encode(EVENTS.name, ready.event)
                except InvalidEvent as error:
                    batch.answer(at, Refused("invalid", f"{error.reason}: {error}"))
                except SchemaError as error:
                    batch.answer(at, Refused("schema", str(error)))
                else:
                    records.append((at, ready.event.user_key.encode(), value))
        except RegistryError as error:
            raise Unavailable(f"the schema registry: {error}") from error
        return records

    def _open(self, timeout: float) -> Any:
        if self._producer is None:
            # Given up here a moment after us, so that whoever comes first is us.
            self._trouble = ""
            limit = {"message.timeout.ms": max(int(timeout * 1000) + 1000, 1000)}
            try:
                self._producer = self._make_producer({**limit, **self._settings})
            except KafkaException as error:
                raise Unavailable(
                    f"librdkafka refused its settings: {error.args[0].str()}"
                ) from error
        return self._producer

    def _produce(
        self, producer: Any, at: int, key: bytes, value: bytes, batch: _Batch, deadline: float
    ) -> None:
        while time.monotonic() < deadline and not self._interrupted:
            try:
                producer.produce(self._topic, value, key, on_delivery=partial(batch.hear, at))
            except BufferError:  # librdkafka's own queue, smaller than the batch
                producer.poll(POLL_S)
                continue
            except KafkaException as error:
                batch.hear(at, error.args[0], None)
                if error.args[0].fatal():
                    self._give_up()
            return

    def _give_up(self) -> None:
        """Let the producer go. It may wait for threads of its own; we do not."""
        producer, self._producer = self._producer, None
        if producer is None:
            return
        try:
            native.start_thread(partial(_end, producer))
        except RuntimeError:  # the interpreter is ending
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(producer))


class _Batch:
    """What has been heard of a batch; once it is given up, what comes late is heard by nobody."""

    def __init__(self, size: int) -> None:
        self.answers: list[Answer] = [Again("no acknowledgement")] * size
        self.answered = 0
        self.waiting = size
        self._heard = [False] * size
        self._timeouts = 0
        self._why: str | None = None

    @property
    def all_timed_out(self) -> bool:
        return self._timeouts > 0 and not self.answered

    @property
    def why(self) -> str:
        return f": {self._why}" if self._why else ""

    def answer(self, at: int, answer: Answer) -> None:
        """This one's is known."""
        if self._heard[at]:
            return
        self._heard[at] = True
        self.waiting -= 1
        self.answers[at] = answer
        if not isinstance(answer, Again):
            self.answered += 1

    def hear(self, at: int, error: KafkaError | None, message: Message | None) -> None:
        """librdkafka's report on one record."""
        if error is None and message is not None:
            self.answer(at, Delivered(message.partition(), message.offset()))
            return
        assert error is not None
        reason = REFUSALS.get(error.code())
        if reason is not None:
            self.answer(at, Refused(reason, error.str()))
            return
        self._why = error.str()
        self._timeouts += error.code() == KafkaError._MSG_TIMED_OUT
        self.answer(at, Again(error.str()))


def _end(producer: Any) -> None:
    producer.purge()
    producer.flush(1.0)
