"""When to try again: exponential back-off with jitter, and one line of log a change of state.

Upstream: the session. Pure but for the log: time is an argument.
"""

from __future__ import annotations

import logging
import random

from streamgauge.sinks.telemetry import RETRIES, TARGET_UP

log = logging.getLogger(__name__)

FIRST, LONGEST = 0.1, 10.0


class Outage:
    """Whether the target answers, and until when to leave it alone."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._attempts = 0
        self._since = 0.0
        self.until = 0.0

    @property
    def down(self) -> bool:
        """Whether the last attempt failed."""
        return self._attempts > 0

    def failed(self, now: float, error: Exception) -> None:
        """An attempt failed: wait, longer each time, and not all at the same moment."""
        if not self.down:
            self._since = now
            log.warning("%s sink pauses: %s", self._kind, error)
        ceiling = min(LONGEST, FIRST * 2**self._attempts)
        self._attempts = min(self._attempts + 1, 20)
        self.until = now + random.uniform(ceiling / 2, ceiling)
        RETRIES.labels(self._kind).inc()
        TARGET_UP.labels(self._kind).set(0)

    def over(self, now: float) -> None:
        """An attempt succeeded."""
        if self.down:
            log.warning("%s sink goes on after %.1f s", self._kind, now - self._since)
        self._attempts, self.until = 0, 0.0
        TARGET_UP.labels(self._kind).set(1)
