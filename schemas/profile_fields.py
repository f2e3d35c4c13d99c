"""The fields of a user's profile that segment rules can read: names, kinds and meanings.

Upstream: nothing. Downstream: `streams.profiles` computes a column of each, at a minute M of the
source partition's watermark, of the events that were accepted before the watermark reached M;
`segments.py` checks rules against the kinds; `verify` computes the fields again from `meaning`.

Invariants: kinds are those of the columns (int: Int64, float: Float64, string: String, bool:
Boolean); a field that is not `nullable` has a value for every user; a day is one of UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

FieldKind = Literal["int", "float", "string", "bool"]


@dataclass(frozen=True, kw_only=True)
class ProfileField:
    """One column of the derived frame."""

    name: str
    kind: FieldKind
    meaning: str
    nullable: bool = False
    timed: bool = False
    """Whether it changes as time passes, without an event of the user."""


PROFILE_FIELDS: Mapping[str, ProfileField] = {
    field.name: field
    for field in (
        ProfileField(
            name="days_since_first",
            kind="int",
            meaning="floor((M - first_seen) / 1 d)",
            timed=True,
        ),
        ProfileField(
            name="hours_since_last",
            kind="int",
            meaning="floor((M - last_seen) / 1 h)",
            timed=True,
        ),
        ProfileField(
            name="days_since_last",
            kind="int",
            meaning="floor((M - last_seen) / 1 d)",
            timed=True,
        ),
        ProfileField(name="events", kind="int", meaning="accepted events, of all types"),
        ProfileField(name="page_views", kind="int", meaning="events of type page_view"),
        ProfileField(name="searches", kind="int", meaning="events of type search"),
        ProfileField(name="plays", kind="int", meaning="playback events with action start"),
        ProfileField(name="quiz_attempts", kind="int", meaning="events of type quiz_attempt"),
        ProfileField(name="active_days", kind="int", meaning="days with an event"),
        ProfileField(
            name="active_days_7",
            kind="int",
            meaning="days with an event among M's day and the 6 days before it",
            timed=True,
        ),
        ProfileField(
            name="active_days_28",
            kind="int",
            meaning="days with an event among M's day and the 27 days before it",
            timed=True,
        ),
        ProfileField(
            name="streak_days",
            kind="int",
            meaning="days in a row with an event, up to M's day or the day before it; else 0",
            timed=True,
        ),
        ProfileField(name="sessions", kind="int", meaning="sessions, over all devices"),
        ProfileField(
            name="avg_session_minutes",
            kind="float",
            meaning="minutes of sessions, on average",
            nullable=True,
        ),
        ProfileField(
            name="binge_sessions",
            kind="int",
            meaning="sessions in which 3 or more episodes of one series were completed",
        ),
        ProfileField(
            name="watch_hours",
            kind="float",
            meaning="hours watched, by where each play ended (watched_hours of metric_fields)",
        ),
        ProfileField(
            name="avg_quiz_score",
            kind="float",
            meaning="mean over quiz attempts of score / total_questions, or of score without it",
            nullable=True,
        ),
        ProfileField(
            name="avg_completion",
            kind="float",
            meaning="mean completion_rate of learning sessions, 0 to 1",
            nullable=True,
        ),
        ProfileField(
            name="exploration_share",
            kind="float",
            meaning="share of items with exploration = true among those that say, 0 to 1",
            nullable=True,
        ),
        ProfileField(name="genres", kind="int", meaning="genres among the content affinities"),
        ProfileField(
            name="engagement_score",
            kind="float",
            meaning="the profile's engagement score at M, 0 to 100",
            timed=True,
        ),
        ProfileField(
            name="learning_velocity",
            kind="float",
            meaning="the profile's learning velocity at M",
            nullable=True,
            timed=True,
        ),
        ProfileField(
            name="dropout_risk",
            kind="float",
            meaning="the profile's dropout risk at M, 0 to 1",
            nullable=True,
            timed=True,
        ),
        ProfileField(
            name="device_type",
            kind="string",
            meaning="the device type with the most events",
            nullable=True,
        ),
        ProfileField(
            name="mobile_share",
            kind="float",
            meaning="share of mobile among the events that say a device type, 0 to 1",
            nullable=True,
        ),
        ProfileField(
            name="top_genre",
            kind="string",
            meaning="the genre with the highest affinity",
            nullable=True,
        ),
        ProfileField(name="country", kind="string", meaning="the country last said", nullable=True),
    )
}
"""By name. Whoever computes them may add to them; a rule that names one keeps it alive."""
