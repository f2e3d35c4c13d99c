"""What all requests share: settings and keys, clocks and buckets, and how much is under way.

Upstream: `app.py`, which makes one. Downstream: `events.py`.

Invariants: the bytes of requests that are not answered yet never exceed the limit; a request whose
turn would come too late is refused before anything is done for it.
"""

from __future__ import annotations

import asyncio
import time

from streamgauge.serving.collector.clocks import Clocks
from streamgauge.serving.collector.delivery import Delivery
from streamgauge.serving.collector.errors import Refusal
from streamgauge.serving.collector.intake import Intake
from streamgauge.serving.collector.keys import KeyRing
from streamgauge.serving.collector.rates import Buckets
from streamgauge.serving.collector.settings import CollectorConfig

BUSY_S = 1.0
AWAY_S = 5.0
"""What Retry-After says."""

TURN_S = 0.05


def busy() -> Refusal:
    """More than can be worked on."""
    return Refusal(503, "busy", "too much at once: send it again", retry_after=BUSY_S)


class Door:
    """What all requests share."""

    def __init__(
        self, config: CollectorConfig, keys: KeyRing, intake: Intake, delivery: Delivery
    ) -> None:
        self.config = config
        self.limits = config.limits
        self.keys = keys
        self.intake = intake
        self.delivery = delivery
        self.clocks = Clocks()
        self.buckets = Buckets()
        self.inflight = 0
        self.turned = time.monotonic()
        wanted = {"authorization", "origin", "content-type", "content-encoding", "content-length"}
        wanted |= {"user-agent", "x-forwarded-for", (config.country_header or "").lower()}
        self.wanted = frozenset(name.encode() for name in wanted)

    async def turn(self) -> None:
        """Note, for as long as the collector runs, when the event loop has last gone round."""
        while True:
            self.turned = time.monotonic()
            await asyncio.sleep(TURN_S)

    def check(self, now: float) -> None:
        """Refuse what would have to wait too long.

        Requests that came together are worked on in one turn of the event loop, one after the
        other: the later ones of a turn that is too long are refused, at a tenth of the cost.
        """
        if now - self.turned > self.limits.busy_seconds:
            raise busy()
        if not self.delivery.accepts:
            raise Refusal(503, "unavailable", "events cannot be kept now", retry_after=AWAY_S)

    def hold(self, size: int) -> None:
        """Count bytes in, or refuse them."""
        if self.inflight + size > self.limits.inflight_bytes:
            raise busy()
        self.inflight += size


class Held:
    """The bytes that one request has in memory."""

    __slots__ = ("_door", "size")

    def __init__(self, door: Door) -> None:
        self._door = door
        self.size = 0

    def add(self, size: int) -> None:
        self._door.hold(size)
        self.size += size
