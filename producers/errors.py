"""What can go wrong on the way to Kafka; every message says what to do.

ProducerError
├── QueueFull        the queue stayed full: the event was not taken, try again later (retryable)
├── EventTooLarge    one event is more than the broker takes: the event was not taken
├── SendRefused      librdkafka refused the event for another reason (`retryable` says if for good)
├── Undelivered      the client was closed before Kafka acknowledged everything
├── ClientClosed     the client was used after close(), or its producer failed for good
└── UnreadableFile   the file to produce is missing, unreadable or of an unknown format

An event that its type does not accept raises schemas' `InvalidEvent`, before it is queued.
"""

from __future__ import annotations

from streamgauge.schemas.errors import StreamgaugeError


class ProducerError(StreamgaugeError):
    """Anything the producers raise on purpose."""


class QueueFull(ProducerError):
    """The queue stayed full for as long as the caller was willing to wait."""

    retryable = True


class EventTooLarge(ProducerError, ValueError):
    """One event is larger than `message.max.bytes`."""


class SendRefused(ProducerError):
    """librdkafka did not take the event."""

    def __init__(self, message: str, *, retryable: bool) -> None:
        super().__init__(message)
        self.retryable = retryable


class Undelivered(ProducerError):
    """Events were still unacknowledged when the client had to close."""

    def __init__(self, count: int) -> None:
        super().__init__(
            f"{count} events were not acknowledged before the client closed: is Kafka reachable? "
            "Call flush() with a longer timeout, or keep the events and send them again."
        )
        self.count = count


class ClientClosed(ProducerError):
    """The client can take no more events: make a new one."""


class UnreadableFile(ProducerError):
    """The file to produce cannot be read."""
