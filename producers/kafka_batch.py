"""What has been heard of a batch on its way to Kafka, event by event.

Upstream: librdkafka's reports. Downstream: `kafka_transport.py`, which answers the sender.

Invariants: the first report on an event counts; once the batch is given up, what comes late is
heard by nobody. Kafka refuses records together with those they lie with: one that is refused as
too large is `crowded` until it was sent alone.
"""

from __future__ import annotations

from typing import NamedTuple

from confluent_kafka import KafkaError, Message

from streamgauge.producers.transport import Again, Answer, Delivered, Refused

TOO_LARGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE})
REJECTED = frozenset({KafkaError.INVALID_RECORD, KafkaError.INVALID_MSG})
"""Errors that sending again does not mend."""


class Record(NamedTuple):
    """An event as Kafka gets it."""

    at: int
    """Its place in the batch."""
    topic: str
    key: bytes
    value: bytes
    instead: Answer | None = None
    """The answer once Kafka has it, where that is not Delivered."""


class Batch:
    """The answers so far."""

    def __init__(self, size: int) -> None:
        self.answers: list[Answer] = [Again("no acknowledgement")] * size
        self.answered = 0
        self.waiting = size
        self._heard = [False] * size
        self._crowded: set[int] = set()
        self._timeouts = 0
        self._why: str | None = None

    @property
    def all_timed_out(self) -> bool:
        return self._timeouts > 0 and not self.answered

    @property
    def why(self) -> str:
        return f": {self._why}" if self._why else ""

    def crowded(self) -> set[int]:
        """Events to be sent alone, and waited for again."""
        crowded, self._crowded = self._crowded, set()
        for at in crowded:
            self._heard[at] = False
        self.waiting += len(crowded)
        return crowded

    def answer(self, at: int, answer: Answer) -> None:
        """This one's is known."""
        if not self._first(at):
            return
        self.answers[at] = answer
        if not isinstance(answer, Again):
            self.answered += 1

    def hear(
        self, record: Record, alone: bool, error: KafkaError | None, message: Message | None
    ) -> None:
        """librdkafka's report on one record."""
        if error is None and message is not None:
            delivered = record.instead or Delivered(message.partition(), message.offset())
            self.answer(record.at, delivered)
            return
        assert error is not None
        if error.code() in TOO_LARGE:
            if alone:
                said = f"{len(record.value)} bytes: {error.str()}"
                self.answer(record.at, Refused("too_large", said))
            elif self._first(record.at):
                self._crowded.add(record.at)
        elif error.code() in REJECTED:
            self.answer(record.at, Refused("rejected", error.str()))
        else:
            self._why = error.str()
            self._timeouts += error.code() == KafkaError._MSG_TIMED_OUT
            self.answer(record.at, Again(error.str()))

    def _first(self, at: int) -> bool:
        if self._heard[at]:
            return False
        self._heard[at] = True
        self.waiting -= 1
        return True
