"""What takes events away: the interface, and the answers an event can get.

Upstream: `sender.py`. Downstream: `kafka_transport.py`, `collector_transport.py`, and `testing.py`.
`tests/producers/test_transports.py` is the suite that all of them pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from streamgauge.producers.preparation import Ready


@dataclass(frozen=True, slots=True)
class Delivered:
    """It is durable; where, if the receiver says."""

    partition: int | None = None
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """It will never be taken."""

    reason: str
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Again:
    """It was not taken, or nobody knows: send it again, with the same id."""

    detail: str


Answer = Delivered | Refused | Again
DELIVERED = Delivered()


class Transport(Protocol):
    """Used by one thread at a time, but for `interrupt`."""

    max_batch: int
    """How many events it is given at most."""
    max_bytes: int
    """And of how many bytes together, about."""

    def send(self, events: Sequence[Ready], timeout: float) -> list[Answer]:
        """An answer for each of them, in order, within the timeout.

        Raises Unavailable when nothing is known to be taken. Events may then arrive nevertheless.
        """

    def interrupt(self) -> None:
        """From another thread: a `send` under way shall return or raise soon."""

    def close(self) -> None:
        """No more events; returns at once."""

    def abandon(self) -> None:
        """In a forked child: forget connections and threads that are the parent's."""
