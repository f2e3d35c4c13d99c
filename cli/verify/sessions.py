"""Sessions again, one event at a time: what `sessions` and `device_sessions` have to say.

Upstream: accepted events and ticks, partition by partition in order of offsets. Downstream:
`session_targets.py`. Events are sorted by time and id, and cut where docs/sessions.md says.
Events are kept until their session is over, which is looked after once in an hour of the watermark.

Invariant: it shares no code with the worker.
"""

from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from streamgauge.schemas.records import Control

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
GAP, CAP, BINGE = 30 * MINUTE, DAY, 3


class Whose(NamedTuple):
    """Whose sessions: of a user, or of one of the user's devices."""

    partition: int
    user: str
    device: str | None
    by_device: bool


class Visit(NamedTuple):
    """What counts of an event."""

    time: int
    event_id: str
    page: str | None
    is_view: bool
    is_conversion: bool
    is_playback: bool
    completed: tuple[str, str] | None


Row = Mapping[str, Any]


@dataclass
class _Partition:
    watermark: int | None = None
    swept: int = 0
    """The watermark at which sessions were last looked after."""
    visits: dict[Whose, list[Visit]] = field(default_factory=lambda: defaultdict(list))
    over: dict[tuple[Whose, int], Row] = field(default_factory=dict)
    """By whose it is, and start."""


class Sessions:
    """The fold; feed it in order, then ask `rows`."""

    def __init__(self, *, lateness_ms: int, consent_denied: bool) -> None:
        self._lateness = lateness_ms
        self._consent_denied = consent_denied
        self._partitions: defaultdict[int, _Partition] = defaultdict(_Partition)

    def tick(self, partition: int, timestamp: int) -> None:
        """Time passes."""
        of = self._partitions[partition]
        of.watermark = timestamp if of.watermark is None else max(of.watermark, timestamp)
        if of.watermark - of.swept >= HOUR:
            of.swept = of.watermark
            self._sweep(of)

    def control(self, partition: int, offset: int, control: Control) -> None:
        """No definition changes sessions."""

    def event(self, partition: int, offset: int, event: Mapping[str, Any]) -> None:
        """An accepted one."""
        consent = event.get("consent_analytics")
        if not (self._consent_denied if consent is None else not consent):
            of, visit = self._partitions[partition], _visit(event)
            user = event.get("user_id") or event["anonymous_id"]
            device = event.get("device_type")
            for whose in Whose(partition, user, None, False), Whose(partition, user, device, True):
                insort(of.visits[whose], visit, key=lambda one: one[:2])
        self.tick(partition, event["timestamp"])

    def rows(self, *, by_device: bool) -> dict[str, dict[str, Any]]:
        """Every session as it stands, by the key of its record."""
        found = {}
        for of in self._partitions.values():
            self._sweep(of)
            stands = [
                ((whose, session[0].time), _row(session))
                for whose, visits in of.visits.items()
                for session in _cut(visits)
            ]
            for final, some in ((True, of.over.items()), (False, stands)):
                for (whose, start), row in some:
                    if whose.by_device == by_device:
                        device = {"device_type": whose.device} if by_device else {}
                        names = [whose.user, *(device and [whose.device or ""]), str(start)]
                        row = {"user_id": whose.user, **device, **row, "is_final": final}
                        found["|".join(names)] = row
        return found

    def passed(self, started_at: int, ended_at: int) -> bool:
        """Whether every partition is so far that such a session is over, wherever it was."""
        return all(
            of.watermark is not None and self._is_over(of.watermark, started_at, ended_at)
            for of in self._partitions.values()
        )

    def _sweep(self, of: _Partition) -> None:
        if of.watermark is None:
            return
        for whose, visits in list(of.visits.items()):
            for session in list(_cut(visits)):
                if not self._is_over(of.watermark, session[0].time, session[-1].time):
                    break
                of.over[whose, session[0].time] = _row(session)
                del visits[: len(session)]
            if not visits:
                del of.visits[whose]

    def _is_over(self, watermark: int, start: int, end: int) -> bool:
        floor = (watermark - self._lateness) // MINUTE * MINUTE
        return end + GAP < floor or start + CAP <= floor


def _cut(visits: list[Visit]) -> Iterator[list[Visit]]:
    session: list[Visit] = []
    for visit in visits:
        if session and (visit.time - session[-1].time > GAP or visit.time - session[0].time >= CAP):
            yield session
            session = []
        session.append(visit)
    if session:
        yield session


def _row(session: list[Visit]) -> dict[str, Any]:
    start, end = session[0].time, session[-1].time
    pages = [visit.page for visit in session if visit.page is not None]
    completed = {visit.completed for visit in session if visit.completed is not None}
    episodes = Counter(series for series, _ in completed)
    return {
        "started_at": start,
        "ended_at": end,
        "duration_seconds": (end - start) / 1000,
        "events": len(session),
        "page_views": sum(visit.is_view for visit in session),
        "entry_page": pages[0] if pages else None,
        "exit_page": pages[-1] if pages else None,
        "conversions": sum(visit.is_conversion for visit in session),
        "playbacks": sum(visit.is_playback for visit in session),
        "is_bounce": len(session) == 1,
        "is_binge": max(episodes.values(), default=0) >= BINGE,
    }


def _visit(event: Mapping[str, Any]) -> Visit:
    kind, action, url = event["event_type"], event.get("action"), event.get("page_url")
    episode = event.get("episode")
    if episode is None:
        episode = event.get("item_id")
    series = event.get("series_id")
    is_completed = kind == "playback" and action == "complete" and None not in (series, episode)
    return Visit(
        time=event["timestamp"],
        event_id=event["event_id"],
        page=None if url is None else url.split("?", 1)[0].split("#", 1)[0],
        is_view=kind == "page_view",
        is_conversion=kind == "form_submit" or (kind, action) == ("course_interaction", "enroll"),
        is_playback=kind == "playback",
        completed=(str(series), str(episode)) if is_completed else None,
    )
