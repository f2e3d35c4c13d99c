"""What can go wrong between a topic and its target; every message says what to do.

SinkError
├── Retryable   the target did not answer: write the same batch again after a pause
├── Rewound     the target holds less than it once took (fail-over, lost data): open again
├── Fenced      somebody newer writes this partition: drop what is buffered, join the group anew
└── Fatal       time does not heal it: stop, and tell a person
"""

from __future__ import annotations

from streamgauge.schemas.errors import StreamgaugeError


class SinkError(StreamgaugeError):
    """Anything a sink raises on purpose."""


class Retryable(SinkError):
    """An outage. Nothing of the batch counts as written; writing it again is safe."""

    retryable = True


class Rewound(SinkError):
    """The target is older than this sink's memory of it. `open` says where to read on."""

    retryable = True


class Fenced(SinkError):
    """A newer owner has taken a partition over; nothing of the batch was written."""


class Fatal(SinkError):
    """A wrong setting, a missing table: the message says what to change."""
