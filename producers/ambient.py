"""Fields that every event of a stretch of code carries: a request's session, page, device.

    with context(user_id="u-17", session_id=request.session):
        client.track("page_view", page_url="/pricing")

Holds for all clients, in this thread, task or greenlet and what it starts; inner contexts add to
outer ones. Upstream: the application. Downstream: `client.py` takes a reference with each event.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

ENVELOPE = frozenset(
    {
        *("event_id", "event_type", "user_id", "anonymous_id", "session_id", "timestamp"),
        *("received_at", "bot", "page_url", "referrer", "device_type", "screen_size"),
        *("connection_speed", "os", "browser", "country", "app_version"),
        *("consent_analytics", "consent_personalisation", "consent_marketing"),
    }
)
"""What every type of event has; a test compares it with `schemas.events.Event`."""

OF_ONE_EVENT = frozenset({"event_id", "event_type", "timestamp", "received_at", "bot"})

_NOTHING: dict[str, Any] = {}
CURRENT: ContextVar[dict[str, Any]] = ContextVar("streamgauge-context", default=_NOTHING)


@contextmanager
def context(**fields: Any) -> Iterator[None]:
    """Within this block, events that do not say otherwise have these fields."""
    token = CURRENT.set({**CURRENT.get(), **checked(fields)})
    try:
        yield
    finally:
        CURRENT.reset(token)


def checked(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields, or TypeError where some type of event would not have them."""
    for name in fields:
        if name not in ENVELOPE - OF_ONE_EVENT:
            raise TypeError(
                f"{name} is no field that all events have: use one of "
                + ", ".join(sorted(ENVELOPE - OF_ONE_EVENT))
            )
    return dict(fields)
