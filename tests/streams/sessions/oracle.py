"""Sessions in a plain loop: what the frames must come to, however events arrive."""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

GAP, DAY = 1_800_000, 86_400_000


def sessions(events: Iterable[Mapping[str, Any]], by: tuple[str, ...]) -> list[dict[str, Any]]:
    """The sessions of events as dicts; `by` are the fields that tell whose they are."""
    found = []

    def whose(event: Mapping[str, Any]) -> tuple[str, ...]:
        return tuple(event[name] or "" for name in by)

    def place(event: Mapping[str, Any]) -> Any:
        return whose(event), event["timestamp"], event["event_id"]

    for _, mine in groupby(sorted(events, key=place), key=whose):
        current: list[Mapping[str, Any]] = []
        for event in mine:
            time = event["timestamp"]
            if current and (
                time - current[-1]["timestamp"] > GAP or time - current[0]["timestamp"] >= DAY
            ):
                found.append(session(current, by))
                current = []
            current.append(event)
        found.append(session(current, by))
    return found


def session(events: list[Mapping[str, Any]], by: tuple[str, ...]) -> dict[str, Any]:
    completed = {
        (event["series_id"], event["episode"] or event["item_id"])
        for event in events
        if event["event_type"] == "playback" and event["action"] == "complete"
    }
    episodes = Counter(series for series, of in completed if series and of)
    pages = [event["page_url"].split("?")[0] for event in events if event["page_url"] is not None]
    return {
        "user_id": events[0]["user_key"],
        "device_type": events[0]["device_type"] if "device_type" in by else None,
        "started_at": events[0]["timestamp"],
        "ended_at": events[-1]["timestamp"],
        "duration_seconds": (events[-1]["timestamp"] - events[0]["timestamp"]) / 1000,
        "events": len(events),
        "page_views": sum(event["event_type"] == "page_view" for event in events),
        "entry_page": pages[0] if pages else None,
        "exit_page": pages[-1] if pages else None,
        "conversions": sum(
            event["event_type"] == "form_submit"
            or (event["event_type"] == "course_interaction" and event["action"] == "enroll")
            for event in events
        ),
        "playbacks": sum(event["event_type"] == "playback" for event in events),
        "is_bounce": len(events) == 1,
        "is_binge": max(episodes.values(), default=0) >= 3,
    }
