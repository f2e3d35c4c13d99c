"""The simulated world: users come, use the product and leave; their events in order of time.

Upstream: `visits.py` (whose session begins when), `behaviour.py` (what happens in it),
`anomalies.py` (what goes wrong). Downstream: `faults.py` sends the events, not all of them
well. Without end: the caller takes as many as it wants.

Invariants: the same arguments give the same events. Timestamps never fall by more than a few
seconds. In memory are the sessions under way and four bytes a user.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush, heapreplace
from random import Random
from typing import Any

from streamgauge.producers.simulator.actions import Action
from streamgauge.producers.simulator.anomalies import Anomaly, apply_all, bot_views
from streamgauge.producers.simulator.behaviour import BEHAVIOUR, SESSION_MINUTES
from streamgauge.producers.simulator.content import Content
from streamgauge.producers.simulator.users import PLATFORM_WEIGHTS, PLATFORMS, user_of
from streamgauge.producers.simulator.visits import (
    DAY_MS,
    MEAN_GAP_DAYS,
    SESSIONS_PER_DAY,
    Visits,
    rhythm,
    weight_between,
)

EVENTS_PER_SESSION = 32.0
"""Measured; a test holds it to the truth."""

OTHER_PLATFORM_SHARE = 0.2
SECOND_DEVICE_SHARE = 0.3
ANONYMOUS_SHARE = 0.05
CONSENT_CHANGE_SHARE = 0.01

USERS_MIN, USERS_MAX = 50, 1_000_000

# Sessions that begin with the world, of those that would be under way: they are busiest at
# their begin, and the rate shall be even.
FIRST_SHARE = 0.75
FIRST_MS = 90_000

# How fast the flow of new sessions is brought back to what the span needs.
CORRECTION_MS = 15 * 60_000

Event = dict[str, Any]
Underway = tuple[int, int, Event, Iterator[Event]]


class World:
    """About `events` events between start and end, and on at that rate after it."""

    def __init__(
        self,
        *,
        seed: int,
        start_ms: int,
        end_ms: int,
        events: float,
        users: int | None = None,
        steady: bool = False,
        anomalies: Sequence[Anomaly] = (),
    ) -> None:
        self.seed = seed
        self.start_ms = start_ms
        self.end_ms = end_ms
        self.steady = steady
        self.anomalies = anomalies
        days = (end_ms - start_ms) / DAY_MS if steady else weight_between(start_ms, end_ms)
        self.sessions_a_day = events / EVENTS_PER_SESSION / days
        natural = self.sessions_a_day * MEAN_GAP_DAYS / SESSIONS_PER_DAY
        self.users = users or int(min(max(natural, USERS_MIN), USERS_MAX))

        self._random = Random(seed)
        self._content = Content(seed)
        self._visits = Visits(self._random, self.users, start_ms)

    def events(self) -> Iterator[Event]:
        """The events of all sessions, merged."""
        random = self._random
        underway: list[Underway] = []
        number = 0
        for number, session in enumerate(self._first_sessions()):
            event = next(session)
            underway.append((event["timestamp"], number, event, session))
        heapify(underway)
        seen = 0
        expected = 0.0
        arrival = last = self.start_ms
        while True:
            while not underway or arrival <= underway[0][0]:
                expected += EVENTS_PER_SESSION * self.sessions_a_day * self._days(last, arrival)
                last = arrival
                number += 1
                session = self._session(self._visits.next(arrival), arrival)
                event = next(session)
                heappush(underway, (event["timestamp"], number, event, session))
                arrival += self._gap(arrival, expected - seen)
            _, order, event, session = underway[0]
            following = next(session, None)
            if following is None:
                heappop(underway)
            else:
                heapreplace(underway, (following["timestamp"], order, following, session))
            seen += 1
            for happened in apply_all(self.anomalies, random, event):
                happened["event_id"] = event_id(random, happened["timestamp"])
                yield happened

    def _first_sessions(self) -> Iterator[Iterator[Event]]:
        """Those under way when the world begins, and the bots."""
        for anomaly in self.anomalies:
            if anomaly.kind == "bot":
                envelope = {"user_id": anomaly.user_id, "browser": "headless"}
                yield self._dressed(bot_views(anomaly), envelope)
        minutes = SESSION_MINUTES * 60_000 / DAY_MS
        level = 1.0 if self.steady else rhythm(self.start_ms // 3_600_000)
        for _ in range(int(FIRST_SHARE * self.sessions_a_day * minutes * level)):
            user = self._visits.next(self.start_ms)
            yield self._session(user, self.start_ms + self._random.randrange(FIRST_MS))

    def _session(self, number: int, start_ms: int) -> Iterator[Event]:
        """One user's session, with the envelope on each event."""
        random = self._random
        user = user_of(self.seed, number)
        platform = user.platform
        if random.random() < OTHER_PLATFORM_SHARE:
            platform = random.choices(PLATFORMS, PLATFORM_WEIGHTS)[0]
        device = user.devices[-1 if random.random() < SECOND_DEVICE_SHARE else 0]
        envelope = {
            **user.envelope,
            **device,
            "session_id": f"session-{random.getrandbits(48):012x}",
        }
        if random.random() < ANONYMOUS_SHARE:
            unknown = {**envelope, "user_id": None, "anonymous_id": user.anonymous_id}
            landing = (start_ms, "page_view", {"page_url": "/login", "title": "login"})
            yield from self._dressed(iter([landing]), unknown)
            start_ms += 4000
            envelope["anonymous_id"] = user.anonymous_id
            yield from self._dressed(iter([(start_ms, "identify", {})]), envelope)
        if random.random() < CONSENT_CHANGE_SHARE:
            yield from self._dressed(iter([(start_ms, "consent_change", {})]), envelope)
        actions = BEHAVIOUR[platform](random, self._content, user, start_ms)
        yield from self._dressed(actions, envelope)

    @staticmethod
    def _dressed(actions: Iterator[Action], envelope: Event) -> Iterator[Event]:
        for timestamp, event_type, fields in actions:
            yield {**envelope, **fields, "event_type": event_type, "timestamp": timestamp}

    def _days(self, start_ms: int, end_ms: int) -> float:
        return (end_ms - start_ms) / DAY_MS if self.steady else weight_between(start_ms, end_ms)

    def _gap(self, now: int, behind: float) -> int:
        """Until the next session begins: a Poisson process, a little faster when behind."""
        level = 1.0 if self.steady else rhythm(now // 3_600_000)
        sessions_a_ms = self.sessions_a_day * level / DAY_MS
        correction = 1 + behind / (EVENTS_PER_SESSION * sessions_a_ms * CORRECTION_MS)
        rate = sessions_a_ms * min(max(correction, 0.5), 2.0)
        return math.ceil(self._random.expovariate(rate))


def event_id(random: Random, timestamp: int) -> str:
    """A UUIDv7 of this time, from the world's own random numbers."""
    bits = random.getrandbits(74)
    return (
        f"{timestamp >> 16:08x}-{timestamp & 0xFFFF:04x}-7{bits >> 62:03x}"
        f"-{bits >> 48 & 0x3FFF | 0x8000:04x}-{bits & 0xFFFFFFFFFFFF:012x}"
    )
