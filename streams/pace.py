"""How long records are held back: longer while a worker catches up with its source.

    event time    ├──────── 60 s ────────┤
    clock         ├─ 1 s ─┤                 60 times as fast: the source is behind, HELD_S
    clock         ├──────── 60 s ────────┤  live: THROTTLE

Who catches up writes of each user what is overtaken soon. Upstream: profiles and sessions.
Invariant: only when a record is written depends on it, never what it says.
"""

from __future__ import annotations

from collections.abc import Mapping

THROTTLE = 5.0
"""Seconds between two records of a user, where nothing is urgent."""
HELD_S = 60.0
"""The same while the worker catches up."""
FAST = 4.0
"""Seconds of event time a second, from which on it does."""
WINDOW_S = 1.0


class Pace:
    """Measured a window at a time; 0 as `throttle` holds nothing back."""

    def __init__(self, throttle: float) -> None:
        self._throttle = throttle
        self._since: float | None = None
        self._watermarks: Mapping[int, int] = {}
        self.hold = throttle
        """Seconds to hold records back now."""

    def measure(self, now: float, watermarks: Mapping[int, int]) -> None:
        """`now` is monotonic seconds; a partition that is new says nothing yet."""
        if self._since is None or now - self._since >= WINDOW_S:
            known = self._watermarks.keys() & watermarks.keys()
            ahead = max((watermarks[p] - self._watermarks[p] for p in known), default=0) / 1000
            is_fast = self._since is not None and ahead > FAST * (now - self._since)
            self.hold = (
                max(HELD_S, self._throttle) if is_fast and self._throttle else self._throttle
            )
            self._since, self._watermarks = now, watermarks
