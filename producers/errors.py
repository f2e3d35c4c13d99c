"""What can go wrong on an event's way out; every message says what to do.

ProducerError
├── QueueFull        the queue stayed full: the event was not taken, try again later (retryable)
├── EventTooLarge    one event is more than the queue or the broker takes: it was not taken
├── SendRefused      librdkafka refused the record for another reason (`retryable` says if for good)
├── Unavailable      the receiver took nothing of a batch: it is sent again (retryable)
├── Undelivered      the client was closed before everything was acknowledged
├── ClientClosed     the client was used after close(), or its producer failed for good
├── SpoolFull        the spool on disk holds all it may (retryable)
├── SpoolUnusable    the spool's directory cannot be written
├── UnreadableFile   the file to produce is missing, unreadable or of an unknown format
└── TargetingUnavailable  a user's segments cannot be looked up (retryable)

`track()` itself raises QueueFull, EventTooLarge and ClientClosed alone; an event that its type does
not accept is told to `on_outcome`, because it is looked at after `track()` has returned.
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


class Unavailable(ProducerError):
    """The receiver is away, or too busy; `retry_after` is what it asked for, in seconds."""

    retryable = True

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Undelivered(ProducerError):
    """Events were still unacknowledged when the client had to close."""

    def __init__(self, count: int) -> None:
        super().__init__(
            f"{count} events were not acknowledged before the client closed: is the receiver "
            "reachable? Call flush() with a longer timeout, or give the client a spool_dir."
        )
        self.count = count


class ClientClosed(ProducerError):
    """The client can take no more events: make a new one."""


class SpoolFull(ProducerError):
    """The spool has reached its bound."""

    retryable = True


class SpoolUnusable(ProducerError):
    """The spool's directory cannot be used."""


class UnreadableFile(ProducerError):
    """The file to produce cannot be read."""


class TargetingUnavailable(ProducerError):
    """A user's segments cannot be looked up: assign without them, or show what everybody sees."""

    retryable = True
