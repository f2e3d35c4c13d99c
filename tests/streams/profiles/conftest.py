"""Events for profiles: frames of any, and what a plain fold makes of them."""

from __future__ import annotations

from typing import Any

import polars as pl
from hypothesis import strategies as st

from streamgauge.schemas.dtypes import dtype
from streamgauge.schemas.envelope import COLUMNS as FIELDS
from streamgauge.streams.profiles.digest import COLUMNS

DAY = 86_400_000
SCHEMA = {
    "partition": pl.Int32(), "offset": pl.Int64(), "event_id": pl.String(),
    "event_type": pl.String(), "timestamp": pl.Int64(), "user_key": pl.String(),
    "consent_analytics": pl.Boolean(),
    **{name: dtype(FIELDS[name]) for name in sorted(COLUMNS)},
}  # fmt: skip


def _maybe(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | values


def event(
    users: tuple[str, ...] = ("ann", "bob"), start: int = 20_000 * DAY, days: int = 40
) -> st.SearchStrategy[dict[str, Any]]:
    """Any event of these users within some days."""
    return st.fixed_dictionaries(
        {
            "user_id": st.sampled_from(users),
            "event_type": st.sampled_from(
                [
                    "page_view",
                    "playback",
                    "playback",
                    "feed_click",
                    "feed_view",
                    "quiz_attempt",
                    "learning_session",
                    "course_interaction",
                    "task_update",
                    "search",
                    "rating",
                    "content_interaction",
                    "custom",
                    "donation",
                ]
            ),
            "timestamp": st.integers(start, start + days * DAY)
            | st.sampled_from([start, start + DAY - 1, start + DAY, start + 2 * DAY]),
            "action": st.none()
            | st.sampled_from(
                [
                    "start",
                    "complete",
                    "skip",
                    "progress",
                    "created",
                    "completed",
                    "like",
                    "enroll",
                    "view",
                    "what",
                ]
            ),
            "device_type": st.sampled_from([None, "mobile", "desktop", "tv"]),
            "screen_size": st.sampled_from([None, "390x844", "1920x1080"]),
            "connection_speed": st.sampled_from([None, "fast"]),
            "quality": st.sampled_from([None, "4k"]),
            "country": st.sampled_from([None, "DE", "FR", "day:x"]),
            "genre": st.sampled_from([None, "drama", "crime", "x" * 70]),
            "content_type": st.sampled_from([None, "video", "text"]),
            "task_status": st.sampled_from([None, "todo", "done"]),
            "priority": st.sampled_from([None, "high", ""]),
            "due_date": _maybe(st.integers(start, start + 9 * DAY)),
            "score": _maybe(st.floats(-1, 100)),
            "total_questions": _maybe(st.integers(0, 20)),
            "completion_rate": _maybe(st.floats(0, 1)),
            "duration": _maybe(st.floats(0, 1e10)),
            "results_count": _maybe(st.integers(0, 1)),
            "position_ms": _maybe(st.floats(0, 1e7)),
            "duration_ms": _maybe(st.floats(0, 1e7)),
            "exploration": st.sampled_from([None, True, False]),
        }
    )


def frame(events: list[dict[str, Any]], first: int = 0) -> pl.DataFrame:
    """Events in the order of arrival, in one partition."""
    rows = [
        {**event, "partition": 0, "offset": first + n, "event_id": str(n)}
        | {"user_key": event["user_id"]}
        for n, event in enumerate(events)
    ]
    return pl.DataFrame(rows, schema=SCHEMA)
