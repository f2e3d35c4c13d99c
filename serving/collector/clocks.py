"""How wrong a client's clock is, without taking the way here for a wrong clock.

Upstream: `sent_at` of a batch and the time at which its headers arrived. Downstream: `intake.py`,
which moves the events' timestamps.

What is seen is arrived - sent = (how far the clock is behind) + (the time on the way), and the way
is never negative. So:

- of one client's requests the smallest difference has the least of the way in it: it is kept
- a clock that is ahead shows as a negative difference: that is certain, and corrected
- a small positive difference may be the way alone: up to TRANSIT_MS nothing is corrected
- a difference that jumps by more than TRANSIT_MS is another clock, or one that was set: begin anew

Invariants: a right clock is never corrected for a way shorter than TRANSIT_MS; all corrections of
one clock that was not set differ by less than its shortest way. Pure: time is an argument.
"""

from __future__ import annotations

from collections import OrderedDict

TRANSIT_MS = 30_000
"""No request is longer on its way: clients give up before, and send again with a new sent_at."""

AHEAD_MS = 1_000
"""Clocks that are ahead by less are right."""

CLIENTS = 100_000


class Clocks:
    """The smallest difference seen of each client, of the ones seen last."""

    def __init__(self, most: int = CLIENTS) -> None:
        self._most = most
        self._least: OrderedDict[str, int] = OrderedDict()

    def correction(self, client: str, sent_at: int, arrived: int) -> int:
        """Milliseconds to add to the timestamps of a request."""
        difference = arrived - sent_at
        known = self._least.pop(client, difference)
        least = difference if abs(difference - known) > TRANSIT_MS else min(known, difference)
        self._least[client] = least
        if len(self._least) > self._most:
            self._least.popitem(last=False)
        return 0 if -AHEAD_MS <= least <= TRANSIT_MS else least

    def __len__(self) -> int:
        return len(self._least)
