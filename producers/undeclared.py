"""Events of types that nobody has declared, where the client is told to keep them as dead letters.

Upstream: `preparation.py` and `store.py` read fields with `read_event`. Downstream: a transport,
which finds such an event with `is_undeclared`: the one to Kafka writes `letter` of it, the one to
the collector sends it like any other, for the collector may know its type or has a mode of its own.

Invariant: such an event has what every event has, and can be written as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from pydantic import ConfigDict

from streamgauge.schemas.errors import InvalidEvent
from streamgauge.schemas.events import Event, parse_event
from streamgauge.schemas.ids import now_ms
from streamgauge.schemas.parsing import flat
from streamgauge.schemas.records import DeadLetter
from streamgauge.schemas.unknown import UnknownTypes

SOURCE = "sdk"
"""Where a dead letter says that it comes from."""

REASON = "unknown_type"


class _Undeclared(Event):
    """Its own fields are as they were given."""

    model_config = ConfigDict(extra="allow")


def read_event(fields: Mapping[str, Any], unknown: UnknownTypes) -> Event:
    """As `parse_event`, but that a type whose mode is dead-letter gives an undeclared event."""
    try:
        return parse_event(fields, unknown)
    except InvalidEvent as error:
        name = fields.get("event_type")
        if error.reason != REASON or not isinstance(name, str):
            raise
        if unknown.mode(name) != "dead-letter":
            raise
        event = _Undeclared(**json.loads(json.dumps(flat(fields, custom=False), default=str)))
        event.model_dump_json()
        return event


def is_undeclared(event: Event) -> bool:
    """Whether this is one."""
    return isinstance(event, _Undeclared)


def why(event: Event) -> str:
    """What is told of it once it is kept."""
    return f"{REASON}: there is no event type {event.event_type!r}; it is kept as a dead letter"


def letter(event: Event) -> DeadLetter:
    """The record that keeps it; its place is made of its id, so that a second one replaces it."""
    return DeadLetter(
        topic=SOURCE,
        partition=0,
        offset=int.from_bytes(blake2b(event.event_id.encode(), digest_size=8).digest()) >> 1,
        schema_id=None,
        reason=REASON,
        detail=f"{REASON}: no event type {event.event_type!r:.100}",
        payload=event.model_dump_json(exclude_none=True).encode(),
        key=event.user_key.encode(),
        failed_at=now_ms(),
    )
