"""The simulated world: users come, use the product and leave; their events in order of time.

Upstream: `visits.py` (whose session begins when), `behaviour.py` (what happens in it),
`anomalies.py` (what goes wrong). Downstream: `faults.py` sends the events, not all of them
well. Without end: the caller takes as many as it wants.

Invariants: the same arguments give the same events. Timestamps never fall. In memory are the
sessions under way and four bytes a user.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush, heapreplace
from random import Random
from typing import Any

from streamgauge.producers.simulator.actions import Action
from streamgauge.producers.simulator.anomalies import Anomaly, apply_all, bot_views
from streamgauge.producers.simulator.behaviour import BEHAVIOUR, SESSION_MINUTES
from streamgauge.producers.simulator.content import Content
from streamgauge.producers.simulator.users import PLATFORM_WEIGHTS, PLATFORMS, user_of
from streamgauge.producers.simulator.visits import (
    DAY_MS,
    HOUR_MS,
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

# Sessions that begin with the world, of those that would be under way, how soon, and how many
# of them at once: sessions are busiest at their begin, and the rate shall be even (measured).
FIRST_SHARE = 0.75
FIRST_MS = 90_000
FIRST_SKEW = 1.6

# How fast the flow of new sessions is brought back to what the span needs.
CORRECTION_MS = 15 * 60_000

NEVER = 2**63

OVERTIME = 20
"""How much faster sessions begin after the end, when the events have yet to come."""

Event = dict[str, Any]
Underway = tuple[int, int, Event, Iterator[Event]]


class World:
    """About `events` events between start and end; after it, on at that rate if steady."""

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
        self._sessions = 0
        self._visits = Visits(self._random, self.users, start_ms)

    def events(self) -> Iterator[Event]:
        """The events of all sessions, merged."""
        random = self._random
        underway: list[Underway] = []
        for anomaly in self.anomalies:
            if anomaly.kind == "bot":
                envelope = {"user_id": anomaly.user_id, "browser": "headless"}
                self._begin(self._dressed(bot_views(anomaly), envelope), underway)
        first = self._first_arrivals()
        seen = 0
        expected = 0.0
        arrival = last = self.start_ms
        while True:
            while not underway or min(arrival, first[-1]) <= underway[0][0]:
                if first[-1] <= arrival:
                    begin = first.pop()
                    self._begin(self._session(self._visits.next(begin), begin), underway)
                    continue
                self._begin(self._session(self._visits.next(arrival), arrival), underway)
                expected += EVENTS_PER_SESSION * self.sessions_a_day * self._days(last, arrival)
                last = arrival
                arrival = self._next_arrival(arrival, expected - seen)
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

    def _begin(self, session: Iterator[Event], underway: list[Underway]) -> None:
        self._sessions += 1
        event = next(session, None)
        if event is not None:
            heappush(underway, (event["timestamp"], self._sessions, event, session))

    def _first_arrivals(self) -> list[int]:
        """Begins of the sessions that stand for those under way; the last is the next one."""
        under_way = self._flow(self.start_ms, 0) * SESSION_MINUTES * 60_000
        begins = [
            self.start_ms + int(FIRST_MS * self._random.random() ** FIRST_SKEW)
            for _ in range(int(FIRST_SHARE * under_way))
        ]
        return [NEVER, *sorted(begins, reverse=True)]

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
        now = 0
        for timestamp, event_type, fields in actions:
            now = max(now, timestamp)  # a request outlasts the pause after it now and then
            yield {**envelope, **fields, "event_type": event_type, "timestamp": now}

    def _days(self, start_ms: int, end_ms: int) -> float:
        return (end_ms - start_ms) / DAY_MS if self.steady else weight_between(start_ms, end_ms)

    def _next_arrival(self, now: int, behind: float) -> int:
        """When the next session begins: a Poisson process whose rate changes by the hour."""
        while True:
            change = (now // HOUR_MS + 1) * HOUR_MS
            if now < self.end_ms:
                change = min(change, self.end_ms)
            gap = math.ceil(self._random.expovariate(self._flow(now, behind)))
            if now + gap < change:
                return now + gap
            now = change

    def _flow(self, now: int, behind: float) -> float:
        """Sessions a millisecond: by the hour, and a little more when behind."""
        flow = self.sessions_a_day / DAY_MS
        if not self.steady:
            flow *= rhythm(now // HOUR_MS)
            if now >= self.end_ms:
                flow *= OVERTIME
        correction = 1 + behind / (EVENTS_PER_SESSION * flow * CORRECTION_MS)
        return flow * min(max(correction, 0.5), 2.0)


def event_id(random: Random, timestamp: int) -> str:
    """A UUIDv7 of this time, from the world's own random numbers."""
    bits = random.getrandbits(74)
    return (
        f"{timestamp >> 16:08x}-{timestamp & 0xFFFF:04x}-7{bits >> 62:03x}"
        f"-{bits >> 48 & 0x3FFF | 0x8000:04x}-{bits & 0xFFFFFFFFFFFF:012x}"
    )
