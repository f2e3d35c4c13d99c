"""What is known of users again, event by event: sessions that are over, profiles, who moves.

Upstream: accepted events, ticks and controls, partition by partition in order of offsets.
Downstream: the comparison. When whom to look at is written down here a second time, from
docs/segments.md: at each full minute of the watermark who had an event in the minute before, at
each full hour everybody.

Invariant: it shares no code with the worker but the reading of rules.
"""

import heapq
from bisect import insort
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from streamgauge.cli.verify.moment import Moment
from streamgauge.cli.verify.profiles import ProfileFold
from streamgauge.cli.verify.segments import Membership
from streamgauge.schemas.records import Control
from streamgauge.schemas.segments import KIND, Rules

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
GAP, CAP, BINGE = 30 * MINUTE, DAY, 3

Visit = tuple[int, str, tuple[str, str] | None]
"""Time and id of an event, and the series and episode that it completed."""


@dataclass
class _Partition:
    watermark: int | None = None
    touched: set[str] = field(default_factory=set)
    """Who had an event in the minute of the watermark."""
    known: dict[str, None] = field(default_factory=dict)
    """Everybody, in the order of coming."""
    visits: defaultdict[str, list[Visit]] = field(default_factory=lambda: defaultdict(list))
    """Events of sessions that are not over."""
    closing: list[tuple[int, str]] = field(default_factory=list)
    """A heap: a watermark at which a session of the user may be over."""


class Users:
    """The fold; feed it in order, then ask `profiles` and `membership`."""

    def __init__(self, rules: Rules, *, lateness_ms: int, consent_denied: bool) -> None:
        self.profiles = ProfileFold()
        self.membership = Membership(start=rules)
        self._lateness = lateness_ms
        self._consent_denied = consent_denied
        self._partitions: defaultdict[int, _Partition] = defaultdict(_Partition)

    def tick(self, partition: int, timestamp: int) -> None:
        """Time passes."""
        self._pass(partition, timestamp)

    def control(self, partition: int, offset: int, control: Control) -> None:
        """A definition takes effect."""
        if control.kind != KIND:
            return
        of = self._partitions[partition]
        at = of.watermark if of.watermark is not None else 0
        if of.watermark is not None:
            self._close(partition, of, at)
        everybody = ((user, self._moment(partition, user, at)) for user in of.known)
        self.membership.change(partition, control, at, everybody)

    def event(self, partition: int, offset: int, event: Mapping[str, Any]) -> None:
        """An accepted one."""
        self._pass(partition, event["timestamp"])
        consent = event.get("consent_analytics")
        if self._consent_denied if consent is None else not consent:
            return
        of = self._partitions[partition]
        user = event.get("user_id") or event["anonymous_id"]
        self.profiles.add(partition, event)
        of.known.setdefault(user)
        of.touched.add(user)
        visits, visit = of.visits[user], (event["timestamp"], event["event_id"], _completed(event))
        insort(visits, visit, key=lambda one: one[:2])
        if visits[0] is visit:  # later ones make its session longer, never shorter
            self._expect(of, user)

    def finish(self) -> None:
        """Everything is read: sessions that are over by now count."""
        for partition, of in self._partitions.items():
            if of.watermark is not None:
                self._close(partition, of, of.watermark)

    def watermark(self, partition: int) -> int:
        """How far time is there; 0 before any event."""
        return self._partitions[partition].watermark or 0

    def _pass(self, partition: int, timestamp: int) -> None:
        """Time goes on to at least this; whoever is due on the way is looked at."""
        of = self._partitions[partition]
        before = of.watermark
        if before is not None and timestamp <= before:
            return
        of.watermark = timestamp
        if before is None:
            return
        for at in _looks(before, timestamp, waiting=bool(of.touched)):
            self._close(partition, of, at - 1)
            looked = of.known if at % HOUR == 0 else sorted(of.touched)
            for user in looked:
                self.membership.look(partition, user, at, self._moment(partition, user, at))
            if at % HOUR == 0 and of.known:
                self.membership.hour(partition, at)
            of.touched.clear()

    def _close(self, partition: int, of: _Partition, watermark: int) -> None:
        """Count the sessions that are over at this watermark."""
        while of.closing and of.closing[0][0] <= watermark:
            _, user = heapq.heappop(of.closing)
            while of.visits[user]:
                first = next(_sessions(of.visits[user]))
                start, end = first[0][0], first[-1][0]
                if self._closes(start, end) > watermark:
                    break
                episodes = {done for _, _, done in first if done is not None}
                series = [name for name, _ in episodes]
                self.profiles.users[partition, user].session(
                    start,
                    end - start,
                    len(first),
                    binge=any(series.count(name) >= BINGE for name in series),
                )
                del of.visits[user][: len(first)]
            if of.visits[user]:
                self._expect(of, user)
            else:
                del of.visits[user]

    def _expect(self, of: _Partition, user: str) -> None:
        first = next(_sessions(of.visits[user]))
        heapq.heappush(of.closing, (self._closes(first[0][0], first[-1][0]), user))

    def _closes(self, start: int, end: int) -> int:
        """The watermark at which a session is over."""
        by_gap = (end + GAP) // MINUTE * MINUTE + MINUTE
        by_cap = -(-(start + CAP) // MINUTE) * MINUTE
        return min(by_gap, by_cap) + self._lateness

    def _moment(self, partition: int, user: str, at: int) -> Moment:
        return Moment(self.profiles.users[partition, user], at)


def _looks(before: int, after: int, *, waiting: bool) -> Iterator[int]:
    """When somebody is to be looked at while the watermark goes from one to the other."""
    first = (before // MINUTE + 1) * MINUTE
    if waiting and first <= after:
        yield first
    hour = (before // HOUR + 1) * HOUR
    if hour == first and waiting:
        hour += HOUR
    yield from range(hour, after + 1, HOUR)


def _sessions(visits: Iterable[Visit]) -> Iterator[list[Visit]]:
    """Sorted events, cut into sessions."""
    session: list[Visit] = []
    for visit in visits:
        if session and (visit[0] - session[-1][0] > GAP or visit[0] - session[0][0] >= CAP):
            yield session
            session = []
        session.append(visit)
    yield session


def _completed(event: Mapping[str, Any]) -> tuple[str, str] | None:
    if event["event_type"] != "playback" or event.get("action") != "complete":
        return None
    series, episode = event.get("series_id"), event.get("episode")
    if episode is None:
        episode = event.get("item_id")
    return None if series is None or episode is None else (series, episode)
