"""The fields of `schemas/profile_fields.py`, of one user at one moment, as they are asked for.

Upstream: `profiles.py`. Downstream: conditions of segments. Invariant: each is what its `meaning`
says, of the events and sessions that the profile has.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from streamgauge.cli.verify.profiles import Profile
from streamgauge.schemas.profile_fields import PROFILE_FIELDS
from streamgauge.schemas.profile_records import DEVICES

HOUR, DAY = 3_600_000, 86_400_000

_AS_OF = {
    "events": "events",
    "active_days": "active_days",
    "active_days_7": "active_days_7",
    "active_days_28": "active_days_28",
    "streak_days": "current_streak",
    "avg_quiz_score": "avg_quiz_score",
    "avg_completion": "avg_completion",
    "engagement_score": "engagement_score",
    "learning_velocity": "learning_velocity",
    "dropout_risk": "dropout_risk",
    "device_type": "preferred_device",
    "country": "country",
}
"""What the record says as well, as of the day."""
_COUNTS = {
    "page_views": "page_views",
    "searches": "searches",
    "plays": "plays",
    "quiz_attempts": "quiz_attempts",
    "sessions": "sessions",
    "binge_sessions": "binges",
}


class Moment(Mapping[str, Any]):
    """Fields by name."""

    def __init__(self, profile: Profile, at: int) -> None:
        self._profile, self._at = profile, at
        self._record: dict[str, Any] | None = None

    def __getitem__(self, name: str) -> Any:
        if name in _COUNTS:
            return self._profile.counts[_COUNTS[name]]
        if name in _AS_OF:
            return self._as_of(_AS_OF[name])
        return _OTHERS[name](self)

    def __iter__(self) -> Iterator[str]:
        return iter(PROFILE_FIELDS)

    def __len__(self) -> int:
        return len(PROFILE_FIELDS)

    def _as_of(self, name: str) -> Any:
        if self._record is None:
            self._record = self._profile.as_of(self._at // DAY)
        return self._record[name]

    def _since(self, time: int, unit: int) -> int:
        return (self._at - time) // unit

    def _minutes(self) -> float | None:
        seconds = self._as_of("avg_session_seconds")
        return None if seconds is None else float(seconds / 60)

    def _explored(self) -> float | None:
        said = self._profile.counts["exploration_said"]
        return self._profile.counts["explored"] / said if said else None

    def _mobile(self) -> float | None:
        counts = self._profile.counts
        said = sum(counts[f"{device}_events"] for device in DEVICES)
        return counts["mobile_events"] / said if said else None

    def _genre(self) -> str | None:
        return next(iter(self._as_of("preferred_genres")), None)

    def _genres(self) -> int:
        return sum(kind == "genre" for kind, _ in self._profile.affinities)

    def _first(self) -> int:
        return self._profile.first_seen

    def _last(self) -> int:
        return self._profile.last_seen

    def _watched(self) -> float:
        return self._profile.sums["watched_ms"] / 3_600_000


_OTHERS: Mapping[str, Callable[[Moment], Any]] = {
    "days_since_first": lambda of: of._since(of._first(), DAY),
    "hours_since_last": lambda of: of._since(of._last(), HOUR),
    "days_since_last": lambda of: of._since(of._last(), DAY),
    "avg_session_minutes": Moment._minutes,
    "watch_hours": Moment._watched,
    "exploration_share": Moment._explored,
    "mobile_share": Moment._mobile,
    "genres": Moment._genres,
    "top_genre": Moment._genre,
}
