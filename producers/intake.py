"""The queue between callers and the sender: bounded by count and by bytes.

Upstream: `client.py`, in the caller's thread. Downstream: `sender.py`. What lies here is a tuple of
what the caller gave: nothing is checked or encoded yet.

Invariant: an event is either in here for good or was never taken; `accepted` counts the former.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from streamgauge.producers import native
from streamgauge.producers.errors import ClientClosed


class Given(NamedTuple):
    """An event as its caller gave it."""

    event: Any
    """A type's name, or a whole event."""
    event_id: str
    timestamp: int
    user_id: str | None
    fields: dict[str, Any]
    context: dict[str, Any]
    size: int
    """About how many bytes it keeps."""


class Intake:
    """Any thread puts in, the sender takes out."""

    def __init__(
        self, max_events: int, max_bytes: int, batch: int, wake: Callable[[], None]
    ) -> None:
        self.max_events = max_events
        self.max_bytes = max_bytes
        self.accepted = 0
        self._batch = batch
        self._wake = wake
        self._items: deque[Given] = deque()
        self._bytes = 0
        self._closed = False
        self._lock = native.new_lock()

    def offer(self, given: Given) -> bool:
        """Take an event in; False when there is no room."""
        size = given[6]
        with self._lock:
            if self._closed:
                raise ClientClosed("the client is closed: make a new one")
            count = len(self._items)
            if count >= self.max_events or self._bytes + size > self.max_bytes:
                return False
            self._items.append(given)
            self._bytes += size
            self.accepted += 1
        count += 1
        if count == 1 or count == self._batch:
            self._wake()
        return True

    def take(self, events: int, size: int) -> list[Given]:
        """The oldest events: so many at most, and together of about this size at most."""
        taken: list[Given] = []
        with self._lock:
            while self._items and len(taken) < events:
                next_size = self._items[0].size
                if taken and next_size > size:
                    break
                size -= next_size
                self._bytes -= next_size
                taken.append(self._items.popleft())
        return taken

    def close(self) -> None:
        """Take nothing more."""
        with self._lock:
            self._closed = True

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def bytes(self) -> int:
        return self._bytes

    def __len__(self) -> int:
        return len(self._items)
