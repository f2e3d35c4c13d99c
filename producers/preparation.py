"""From what a caller gave to an event that can be sent, or to the reason why there is none.

Upstream: `sender.py`, in its own thread; here pydantic looks at the event for the first time.
Downstream: a transport or the spool.

    given fields > context > defaults      consent_default, sampling, before_send

Invariants: the id is the one that `track()` returned; a user is sampled wholly or not at all;
`before_send` that raises drops the event (it may have been there to take something out of it).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal
from zlib import crc32

from streamgauge.producers.intake import Given
from streamgauge.producers.undeclared import read_event
from streamgauge.schemas.errors import InvalidEvent
from streamgauge.schemas.events import Event
from streamgauge.schemas.unknown import UnknownTypes

NEVER_SAMPLED = frozenset({"identify", "consent_change", "experiment_exposure"})
"""Sampled only where they are named: everything else builds on them."""


@dataclass(slots=True)
class Ready:
    """An event that can be sent."""

    event_id: str
    event: Event
    size: int


@dataclass(frozen=True, slots=True)
class Unfit:
    """Why there is none."""

    reason: str
    detail: str | None
    event: Any


BeforeSend = Callable[[Event], Event | None]
"""Gets an event before it is sent: returns it, another in its place, or None to drop it."""


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What is done to every event."""

    defaults: Mapping[str, Any]
    unknown: UnknownTypes
    consent_default: Literal["granted", "denied"] | None = None
    when_denied: Literal["send", "drop"] = "send"
    sample: Mapping[str, float] | float = 1.0
    before_send: BeforeSend | None = None

    def __call__(self, given: Given) -> Ready | Unfit:
        """The event, or why it is none; raises nothing."""
        try:
            if isinstance(given.event, str):
                event = self._from_fields(given)
            else:
                event = self._from_event(given)
        except InvalidEvent as error:
            return Unfit("invalid", f"{error.reason}: {error}", _told(given))
        except Exception as error:  # a value whose own methods raise
            return Unfit("invalid", f"{type(error).__name__}: {error}", _told(given))
        if not self._in_sample(event):
            return Unfit("sampled", None, event)
        if event.consent_analytics is None and self.consent_default is not None:
            granted = self.consent_default == "granted"
            event = event.model_copy(update={"consent_analytics": granted})
        if event.consent_analytics is False and self.when_denied == "drop":
            return Unfit("consent", None, event)
        if self.before_send is not None:
            try:
                kept = self.before_send(event)
                if kept is None:
                    return Unfit("before_send", None, event)
                if kept is not event:  # model_copy and model_construct check nothing
                    event = type(kept).model_validate(kept.model_dump(warnings=False))
            except Exception as error:
                return Unfit("before_send_failed", f"{type(error).__name__}: {error}", event)
        return Ready(given.event_id, event, given.size)

    def _from_fields(self, given: Given) -> Event:
        fields: dict[str, Any] = {
            **self.defaults,
            **given.context,
            "timestamp": given.timestamp,
            **given.fields,
            "event_id": given.event_id,
            "event_type": given.event,
        }
        if given.user_id is not None:
            fields["user_id"] = given.user_id
        return read_event(fields, self.unknown)

    def _from_event(self, given: Given) -> Event:
        event: Event = given.event
        around = {**self.defaults, **given.context}
        if not around:
            return event
        return read_event({**around, **event.model_dump(exclude_none=True)}, self.unknown)

    def _in_sample(self, event: Event) -> bool:
        if isinstance(self.sample, Mapping):
            share = self.sample.get(event.event_type, self.sample.get("*", 1.0))
            named = event.event_type in self.sample
        else:
            share, named = self.sample, False
        if share >= 1.0 or (event.event_type in NEVER_SAMPLED and not named):
            return True
        return crc32(event.user_key.encode()) < share * 2**32


def _told(given: Given) -> Any:
    """What a callback hears of an event that never became one."""
    if not isinstance(given.event, str):
        return given.event
    return {
        "event_type": given.event,
        "event_id": given.event_id,
        "user_id": given.user_id,
        "timestamp": given.timestamp,
        **given.fields,
    }
