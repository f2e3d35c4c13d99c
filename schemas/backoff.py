"""How long to wait before the next try: longer each time, never in step with others, and never
shorter than the receiver asked for.

Upstream: the SDK's sender; answers of collectors and webhooks. Pure but for the generator it is
given.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime

MAX_RETRY_AFTER_S = 3600.0
"""Nobody is obeyed for longer than this."""


@dataclass(frozen=True, kw_only=True)
class Backoff:
    """Doubles from `base_s` to `max_s`; half of it is chance."""

    base_s: float = 0.2
    max_s: float = 30.0
    draw: random.Random = field(default_factory=random.Random)

    def delay(self, failures: int, retry_after: float | None = None) -> float:
        """Seconds to wait after so many failures in a row (1 is the first)."""
        whole = min(self.max_s, self.base_s * 2.0 ** min(failures - 1, 30))
        delay = whole * (0.5 + self.draw.random() / 2)
        if retry_after is None:
            return delay
        # All clients hear the same figure: they shall not come back in the same moment.
        return max(delay, min(retry_after, MAX_RETRY_AFTER_S) * (1 + self.draw.random() / 10))


def retry_after_s(header: str | None, now: float) -> float | None:
    """What a `Retry-After` says, in seconds from `now` (a time of the wall clock)."""
    if header is None:
        return None
    try:
        return max(float(header), 0.0)
    except ValueError:
        pass
    try:
        return max(parsedate_to_datetime(header).timestamp() - now, 0.0)
    except (TypeError, ValueError):
        return None
