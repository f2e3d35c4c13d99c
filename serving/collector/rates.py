"""Token buckets: how many events a second a key, or one client of it, may send.

Upstream: `app.py`. Pure: time is an argument.

Invariants: a request is taken while its bucket is not in debt and then charged for all of its
events, so a batch larger than the bucket still passes, and is waited for afterwards. A bucket that
is full again is the same as none, so the table forgets the ones longest unused.
"""

from __future__ import annotations

from collections import OrderedDict

BURST_SECONDS = 10.0
"""A bucket holds this many seconds of its rate."""

BUCKETS = 100_000


class Buckets:
    """One bucket for each name."""

    def __init__(self, most: int = BUCKETS) -> None:
        self._most = most
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, at when

    def wait(self, name: str, rate: float, now: float) -> float:
        """Seconds until the next request is taken: 0 is now."""
        known = self._buckets.get(name)
        if rate <= 0 or known is None:
            return 0.0
        tokens = known[0] + (now - known[1]) * rate
        return 0.0 if tokens > 0 else max(0.001, -tokens / rate)

    def charge(self, name: str, rate: float, events: int, now: float) -> None:
        """Take out what a request brought."""
        if rate <= 0:
            return
        size = max(1.0, rate * BURST_SECONDS)
        tokens, at = self._buckets.pop(name, (size, now))
        self._buckets[name] = (min(size, tokens + (now - at) * rate) - events, now)
        if len(self._buckets) > self._most:
            self._buckets.popitem(last=False)

    def __len__(self) -> int:
        return len(self._buckets)
