"""One Kafka transaction a barrier: offsets, outputs and changelogs move together or not at all.

Upstream: the consumer, at its barriers. Downstream: Kafka. All calls block and belong in one lane.

    closed ──open──> ready ──send/commit──> open transaction ──commit──> ready
                       ^                          │
                       └────────── abort ─────────┘
    any ambiguous timeout ──open──> ready          (a new producer with a newer epoch)

An ambiguous timeout of commit or abort is never followed by another transaction of the same
producer: librdkafka has no KIP-890 (its issue 5423), so a late EndTxn could end that one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from streamgauge.schemas import faultpoint
from streamgauge.schemas.topics import qualified
from streamgauge.streams.engine import telemetry
from streamgauge.streams.engine.errors import Fenced, Rollback, Unwritable
from streamgauge.streams.engine.task import Output

logger = logging.getLogger(__name__)

FENCED = {
    KafkaError._FENCED,
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.INVALID_PRODUCER_ID_MAPPING,
}
REFUSED = {
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.RECORD_LIST_TOO_LARGE,
    KafkaError.INVALID_RECORD,
    KafkaError.INVALID_TIMESTAMP,
}


class Ambiguous(Exception):
    """The commit may or may not have happened; the committed offsets tell."""


class Transactions:
    """The transactional producer of one worker."""

    #: Whether rows' deliveries are reported one by one, which costs 0.8 µs a row. A transaction
    #: fails as a whole, with the error of the row that was refused.
    reports_rows = False

    def __init__(
        self,
        kafka: Mapping[str, Any],
        transactional_id: str,
        *,
        namespace: str = "",
        timeout: float = 30.0,
    ) -> None:
        self.transactional_id = transactional_id
        self.namespace = namespace
        self.timeout = timeout
        self._kafka = kafka
        self._producer: Producer | None = None
        self._begun = False
        self._failure: KafkaError | None = None
        self._abandoned: set[threading.Thread] = set()

    def open(self) -> None:
        """Start a producer with a newer epoch; what an earlier one left open is aborted."""
        self._producer, self._begun, self._failure = None, False, None
        producer = Producer(self._settings())
        self._initialise(producer)
        self._producer = producer

    def _settings(self) -> dict[str, Any]:
        return {
            "linger.ms": 5,
            "compression.type": "lz4",
            "queue.buffering.max.messages": 2_000_000,
            "queue.buffering.max.kbytes": 1 << 20,
            "partitioner": "murmur2_random",
            **self._kafka,
            "transactional.id": self.transactional_id,
            "transaction.timeout.ms": 10_000,
        }

    def _initialise(self, producer: Producer) -> None:
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                return producer.init_transactions(10)
            except KafkaException as exc:
                error = exc.args[0]
                if _fenced(error) or not error.retriable() or time.monotonic() > deadline:
                    raise
                logger.info("waiting for the transaction coordinator: %s", error.str())

    def abandon(self, thread: threading.Thread) -> None:
        """What this thread is still about to do must not reach the next producer."""
        self._abandoned.add(thread)

    def close(self) -> None:
        """Abort what is open and let the producer go."""
        if self._producer is not None and self._begun:
            try:
                self._producer.abort_transaction(5)
            except KafkaException as exc:
                logger.warning("left a transaction to its timeout: %s", exc.args[0].str())
        self._producer = None

    @property
    def begun(self) -> bool:
        """A transaction is open, with rows in it."""
        return self._begun

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        partition: int = -1,
        headers: Any = None,
        on_delivery: Any = None,
    ) -> None:
        """Add one row to the current transaction, which is begun if need be."""
        producer = self._begin()
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                producer.produce(
                    topic,
                    value,
                    key,
                    partition,
                    on_delivery=on_delivery or self._delivered,
                    headers=headers,
                )
                return
            except BufferError:  # the queue is full: let it drain
                if time.monotonic() > deadline:
                    raise Rollback(f"{topic}: the producer's queue stayed full") from None
                producer.poll(0.05)
            except KafkaException as exc:
                raise _translated(exc) from exc

    def write(self, output: Output) -> None:
        """Add rows to the current transaction."""
        topic = qualified(self.namespace, output.topic)
        produce = self._begin().produce
        delivered: Any = self._delivered if self.reports_rows else None
        headers = cast(Any, output.headers)
        for key, value, partition in output.rows():
            try:
                produce(topic, value, key, partition, delivered, headers=headers)
            except (BufferError, KafkaException):
                self.send(topic, key, value, partition, headers)
        telemetry.RECORDS_OUT.labels(output.topic).inc(len(output.keys))

    def commit(
        self, offsets: Sequence[TopicPartition], group: Any, consumer: Consumer | None
    ) -> None:
        """Commit rows and offsets, fenced by `group`; raises Rollback, Fenced or Ambiguous."""
        producer = self._begin()
        try:
            faultpoint.reached("before_flush")
            if producer.flush(self.timeout):
                raise Rollback("the broker did not take the rows in time")
            if self._failure is not None:
                raise _translated(KafkaException(self._failure))
            faultpoint.reached("after_flush")
            if offsets:  # none only where nothing is assigned: an empty list would fence nothing
                producer.send_offsets_to_transaction(list(offsets), group, self.timeout)
            faultpoint.reached("after_send_offsets")
        except KafkaException as exc:
            raise _translated(exc) from exc
        self._end(producer.commit_transaction)
        faultpoint.reached("after_commit")
        if producer is self._producer:  # and not one that was given up meanwhile
            self._begun = False

    def abort(self) -> None:
        """Roll back whatever is open."""
        producer, self._failure = self._producer, None
        if producer is None:
            return self.open()
        if not self._begun:
            return None
        try:
            self._end(producer.abort_transaction)
            producer.poll(0)  # the purged rows' delivery reports
            self._begun, self._failure = False, None
        except Fenced:
            raise
        except (Ambiguous, Rollback, KafkaException) as exc:
            logger.warning("abort failed (%s); starting a new producer", exc)
            self.open()
        return None

    def _begin(self) -> Producer:
        if threading.current_thread() in self._abandoned:
            raise Rollback("this commit was given up")
        try:
            if self._producer is None:
                self.open()
            assert self._producer is not None
            if not self._begun:
                self._producer.begin_transaction()
                self._begun = True
        except KafkaException as exc:
            raise _translated(exc) from exc
        return self._producer

    def _end(self, call: Any) -> None:
        """Commit or abort; both may be called again after a retriable error."""
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                return call(max(1.0, deadline - time.monotonic()))
            except KafkaException as exc:
                error = exc.args[0]
                if error.txn_requires_abort() or error.fatal():
                    raise _translated(exc) from exc
                if not error.retriable() or time.monotonic() > deadline:
                    raise Ambiguous(error.str()) from exc

    def _delivered(self, error: KafkaError | None, message: Any) -> None:
        if error is not None and threading.current_thread() not in self._abandoned:
            self._failure = error


class PlainCommits(Transactions):
    """At least once, for the embedded broker, which does not store a transaction's offsets."""

    reports_rows = True

    def _settings(self) -> dict[str, Any]:
        settings = super()._settings()
        for key in ("transactional.id", "transaction.timeout.ms"):
            del settings[key]
        return settings

    def _initialise(self, producer: Producer) -> None:
        pass

    def _begin(self) -> Producer:
        if self._producer is None:
            self.open()
        assert self._producer is not None
        self._begun = True
        return self._producer

    def commit(
        self, offsets: Sequence[TopicPartition], group: Any, consumer: Consumer | None
    ) -> None:
        producer = self._begin()
        if producer.flush(self.timeout) or self._failure is not None:
            raise Rollback("the broker did not take the rows")
        try:
            if offsets and consumer is not None:
                consumer.commit(offsets=list(offsets), asynchronous=False)
        except KafkaException as exc:
            raise _translated(exc) from exc
        self._begun = False

    def abort(self) -> None:
        self._begun, self._failure = False, None

    def close(self) -> None:
        if self._producer is not None:
            self._producer.flush(5)


def _fenced(error: KafkaError) -> bool:
    return error.code() in FENCED


def _translated(exc: KafkaException) -> Exception:
    error: KafkaError = exc.args[0]
    if _fenced(error):
        return Fenced(error.str())
    if error.code() in REFUSED:
        return Unwritable(f"a row was refused: {error.str()}")
    return Rollback(f"{error.name()}: {error.str()}")
