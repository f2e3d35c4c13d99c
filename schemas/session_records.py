"""Sessions as they go over their topics, which are their changelogs too.

Upstream: `streams.sessions`. Downstream: the Postgres sink, `verify`, readers of the topics; the
worker after a restart. What a session is: docs/sessions.md.

Invariants: a row is the whole session as it stands; the latest one of a key is the truth, and a
tombstone says that there is no such session; what only the worker needs is null in final rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamgauge.schemas.records import Time


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """A session of a user, over all devices."""

    user_id: str
    started_at: Time
    ended_at: Time
    duration_seconds: float
    events: int
    page_views: int
    entry_page: str | None
    exit_page: str | None
    conversions: int
    playbacks: int
    is_bounce: bool
    is_binge: bool
    is_final: bool
    emitted_offset: int
    """The row is of all events of its partition of `events` up to this offset."""
    entry_at: Time | None
    entry_id: str | None
    """Time and id of the event that entry_page is of; exit_at and exit_id alike."""
    exit_at: Time | None
    exit_id: str | None
    plays: str | None
    """JSON [[series, episode], …]: completed, as long as they are no binge."""
    parts: str | None
    """JSON, where the session is kept in parts; `streams/sessions/rows.py` says how."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeviceSession:
    """A session of a user on one type of device; the fields are those of `Session`."""

    user_id: str
    device_type: str | None
    started_at: Time
    ended_at: Time
    duration_seconds: float
    events: int
    page_views: int
    entry_page: str | None
    exit_page: str | None
    conversions: int
    playbacks: int
    is_bounce: bool
    is_binge: bool
    is_final: bool
    emitted_offset: int
    entry_at: Time | None
    entry_id: str | None
    exit_at: Time | None
    exit_id: str | None
    plays: str | None
    parts: str | None
