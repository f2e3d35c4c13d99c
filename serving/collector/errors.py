"""What the collector refuses, and what keeps it from starting.

CollectorError
├── KeyFileError   the file of write keys cannot be used: the message says which line or key
└── Refusal        a request that is not taken: an HTTP status, a stable code, what to do
"""

from __future__ import annotations

from streamgauge.schemas.errors import StreamgaugeError


class CollectorError(StreamgaugeError):
    """Anything the collector raises on purpose."""


class KeyFileError(CollectorError):
    """The file of write keys cannot be used."""


class Refusal(CollectorError):
    """A request as a whole is not taken; nothing of it was kept."""

    def __init__(
        self, status: int, code: str, message: str, *, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after
        """Seconds after which the same request may be taken."""
        self.retryable = retry_after is not None
