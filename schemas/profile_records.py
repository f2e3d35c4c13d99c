"""The record of a profile, as data: every field with its meaning; and that of a user's day.

Upstream: `streams.profiles` writes them to `user-profiles` and `daily-analytics`. Downstream: the
sinks, `verify`, and a worker that restores: all that the fold of a user needs is in the record.

Invariants: counts and sums only add up, so the order of events does not matter; real values are
integers, scaled by a million; a day is one of UTC, its number counted from 1970-01-01.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from streamgauge.schemas.records import Time

TYPES: Mapping[str, str] = {
    "page_view": "page_views",
    "course_interaction": "course_interactions",
    "learning_session": "learning_sessions",
    "quiz_attempt": "quiz_attempts",
    "search": "searches",
    "button_click": "button_clicks",
    "link_click": "link_clicks",
    "form_submit": "form_submits",
    "feed_generated": "feeds_generated",
    "feed_view": "feed_views",
    "feed_click": "feed_clicks",
    "content_interaction": "content_interactions",
    "playback": "playbacks",
    "rating": "ratings",
    "task_update": "task_updates",
    "request": "requests",
    "experiment_exposure": "exposures",
    "identify": "identifies",
    "consent_change": "consent_changes",
    "custom": "customs",
}
"""The count of each type of event."""

OTHERS = "other_events"

ACTIONS: Mapping[tuple[str, str], str] = {
    ("playback", "start"): "plays",
    ("playback", "complete"): "plays_completed",
    ("playback", "skip"): "plays_skipped",
    ("course_interaction", "view"): "course_views",
    ("course_interaction", "enroll"): "enrolments",
    ("course_interaction", "complete"): "courses_completed",
    ("content_interaction", "like"): "likes",
    ("content_interaction", "comment"): "comments",
    ("content_interaction", "share"): "shares",
    ("content_interaction", "save"): "saves",
    ("task_update", "created"): "tasks_created",
    ("task_update", "completed"): "tasks_completed",
}
"""The count of each action of a type."""

DEVICES = ("mobile", "tablet", "desktop", "tv")
STATUSES = ("todo", "in_progress", "done")

COUNTS: Mapping[str, str] = {
    **{field: f"Events of type {name}." for name, field in TYPES.items()},
    OTHERS: "Events of any other type.",
    **{field: f"{name} with action {action}." for (name, action), field in ACTIONS.items()},
    **{f"{device}_events": f"Events with device_type {device}." for device in DEVICES},
    **{f"tasks_{status}": f"task_update with status {status}." for status in STATUSES},
    "tasks_overdue": "Tasks completed after their due_date.",
    "zero_result_searches": "Searches with results_count 0.",
    "quizzes_scored": "quiz_attempt with a score.",
    "learning_rated": "learning_session with a completion_rate.",
    "ratings_scored": "rating with a score.",
    "exploration_said": "feed_view, feed_click and playback start that say exploration.",
    "explored": "Those of them with exploration true.",
    "sessions": "Sessions that are over, across devices.",
    "bounces": "Those of them with one event.",
    "binges": "Those of them in which 3 or more episodes of one series were completed.",
}

SUMS: Mapping[str, str] = {
    "quiz_score": "Of quiz_attempt: score / total_questions, or score; scaled by a million.",
    "completion": "Of learning_session: completion_rate, scaled by a million.",
    "learning_time": "Of learning_session: duration, scaled by a million.",
    "watched_ms": "Milliseconds watched: of each play where it ended (complete or skip).",
    "session_ms": "Milliseconds of the sessions that are over.",
    "feedback": "Of rating: score, scaled by a million.",
}

DECAYED: Mapping[str, str] = {
    "activity": "Points of activity.",
    "learning": "Thousandths of what was learned: completion of sessions, courses completed.",
    "quizzes": "Scored quizzes.",
    "quiz_points": "Thousandths of their scores.",
}
"""Sums that fade, half in 8 days: in the epoch (128 days) of the last event, and the one before."""

FIELDS: Mapping[str, tuple[Any, str]] = {
    "user_id": (str, "Whose profile it is: user_id, or anonymous_id without one."),
    "computed_at": (Time, "Begin of the day as of which the derived figures hold."),
    "first_seen": (Time, "Time of the first event."),
    "last_seen": (Time, "Time of the last event."),
    "events": (int, "Events of all types."),
    "active_days": (int, "Days with an event."),
    "current_streak": (int, "Days in a row with an event, up to computed_at or the day before."),
    "active_days_7": (int, "Days with an event among the day of computed_at and 6 before."),
    "active_days_28": (int, "Days with an event among the day of computed_at and 27 before."),
    "days_since_last_seen": (int, "Whole days from the last day with an event to computed_at."),
    "engagement_score": (float, "0 to 100; see docs/profiles.md."),
    "learning_velocity": (float, "Learned a day, recent days first; null for no learner."),
    "dropout_risk": (float, "0 to 1, a heuristic; null for no learner."),
    "avg_session_seconds": (float, "Mean length of the sessions that are over."),
    "avg_quiz_score": (float, "Mean of score / total_questions, or of score."),
    "avg_completion": (float, "Mean completion_rate of learning sessions."),
    "preferred_device": (str, "Device type with the most events."),
    "preferred_genres": (tuple[str, ...], "Up to 5 genres, the strongest affinity first."),
    "preferred_content_types": (tuple[str, ...], "Up to 5 content types, likewise."),
    "preferred_hours": (tuple[int, ...], "Up to 3 hours of the day (UTC) with the most events."),
    "preferred_watch_hours": (tuple[int, ...], "Up to 3 hours (UTC) with the most playback."),
    "country": (str, "The country last said."),
    "sessions": (int, COUNTS["sessions"]),
    "counts": (bytes, "Counts in the order of COUNTS, unsigned 32 bits, little-endian."),
    "sums": (bytes, "Sums in the order of SUMS, 64 bits."),
    "state": (
        bytes,
        "What else a worker goes on from: last_day, epoch, mask … then of `profiles/rows.py`.",
    ),
    "tags": (tuple[str, ...], "What is counted by name: genre:drama, device:mobile|390x844|fast …"),
    "tag_sums": (bytes, "Of each: epoch (0: nothing fades), sum in it, and in the one before."),
    "emitted_offset": (int, "The events of the partition up to this offset are in it."),
}
"""Fields of the record `UserProfile`: type and meaning."""

UserProfile: type = dataclasses.make_dataclass(
    "UserProfile",
    [(name, kind) for name, (kind, _) in FIELDS.items()],
    frozen=True,
    kw_only=True,
    slots=True,
    namespace={"__doc__": "One user, as far as the partition's events tell; latest wins."},
)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class UserDay:
    """What a user did on one day; absolute values, latest wins."""

    user_id: str
    date: Time
    """Begin of the day."""
    events: int
    sessions: int
    """That began on the day and are over."""
    minutes: float
    """Of these sessions."""
    tasks_created: int
    tasks_completed: int
    completion_rate: float | None
    """tasks_completed / tasks_created; null without any."""
    productivity_score: float
    """0 to 100: 70 for the completion rate (at most 1), 30 for up to five completed tasks."""
    genres: tuple[str, ...]
    """Genres played or clicked, by name."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class UserLink:
    """Two names of one person: from an `identify` event that has both."""

    anonymous_id: str
    user_id: str
    linked_at: Time
    """When the first such event happened."""
