"""Decides what becomes of each decoded record of one source partition, one record at a time.

Upstream: the raw topic's records in offset order. Downstream: the recomputation counts what is
accepted. Invariants: the clock is never read; the watermark is the running maximum of event time
over the earlier accepted events and ticks; the order of checks is future, duplicate, late.
"""

from enum import Enum

FUTURE_MS = 300_000
_PRUNE_AT_LEAST = 50_000


class Fate(Enum):
    """What became of a record that could be decoded."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    LATE = "late"
    FUTURE = "future"


class SourcePartition:
    """One partition of `events`: its watermark, and the ids that can still be repeated."""

    def __init__(self, lateness_ms: int) -> None:
        self.watermark: int | None = None
        self._lateness_ms = lateness_ms
        self._accepted: dict[str, int] = {}
        self._prune_at = _PRUNE_AT_LEAST

    def tick(self, timestamp: int) -> None:
        """Time passes in an idle partition; a tick is never an event."""
        if self.watermark is None or timestamp > self.watermark:
            self.watermark = timestamp

    def event(self, event_id: str, timestamp: int, append_time: int) -> Fate:
        """The fate of the next record; an accepted one advances the watermark after the checks."""
        if timestamp > append_time + FUTURE_MS:
            return Fate.FUTURE
        if self.watermark is not None:
            horizon = self.watermark - self._lateness_ms
            # An id accepted twice was accepted later in event time too, so the last one decides.
            seen = self._accepted.get(event_id)
            if seen is not None and seen >= horizon:
                return Fate.DUPLICATE
            if timestamp < horizon:
                return Fate.LATE
        self._accepted[event_id] = timestamp
        if len(self._accepted) >= self._prune_at:
            self._prune()
        self.tick(timestamp)
        return Fate.ACCEPTED

    def closed(self, window_end: int) -> bool:
        """Whether no event of a window ending here can be accepted any more."""
        return self.watermark is not None and self.watermark >= window_end + self._lateness_ms

    def _prune(self) -> None:
        if self.watermark is not None:
            horizon = self.watermark - self._lateness_ms
            self._accepted = {i: ts for i, ts in self._accepted.items() if ts >= horizon}
        self._prune_at = max(_PRUNE_AT_LEAST, 2 * len(self._accepted))
