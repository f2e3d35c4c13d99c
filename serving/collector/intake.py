"""JSON events to records: validated, enriched, encoded; or refused and kept as dead letters.

Upstream: `app.py` with a parsed body. Downstream: `delivery.py`, which makes the records durable.
Pure but for the ids it gives to events without one, and the numbers of dead letters.

Invariants: every event gets exactly one answer, in order; one that is refused says why and is a
dead letter with what was sent and what its request told of it, unless its write key, type or user
is turned away at the door; whatever an event is, it takes none of its batch with it. Fields that
the sender filled are left as they are but for received_at, which is ours, and timestamps of a clock
that is known to be wrong.
"""

from __future__ import annotations

import itertools
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import orjson

from streamgauge.schemas.codec import Codec
from streamgauge.schemas.direct import Encode, Encoded, direct_encoder
from streamgauge.schemas.envelope import to_millis
from streamgauge.schemas.errors import InvalidEvent
from streamgauge.schemas.events import EVENT_TYPES, parse_event
from streamgauge.schemas.ids import uuid7
from streamgauge.schemas.records import DeadLetter
from streamgauge.schemas.registry import Registry
from streamgauge.schemas.topics import DEAD_LETTERS, EVENTS
from streamgauge.schemas.unknown import KEPT, UnknownTypes
from streamgauge.serving.collector.agents import Agent
from streamgauge.serving.collector.body import fits
from streamgauge.serving.collector.keys import WriteKey
from streamgauge.serving.collector.settings import Limits
from streamgauge.serving.collector.throttles import Throttles

logger = logging.getLogger(__name__)


SOURCE = "collector:"
"""Begins the name of where a dead letter comes from."""

MAX_REASON = 500
"""Characters of a reason."""

OURS = frozenset({"received_at", "bot"})
"""Fields that are ours to fill."""


class Record(NamedTuple):
    """What is to be in a topic (its name without the namespace)."""

    topic: str
    key: bytes
    value: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Sender:
    """What a request says about all of its events."""

    key: WriteKey
    arrived: int
    shift: int = 0
    """To be added to timestamps: how far the sender's clock is behind."""
    agent: Agent | None = None
    country: str | None = None


class Answer(NamedTuple):
    """What becomes of one event once its record is durable: ok, or a drop with its reason."""

    id: str | None
    reason: str | None
    record: Record | None
    """None where nothing is kept."""


class Intake:
    """Takes events in; registers their schemas."""

    def __init__(
        self,
        registry: Registry,
        limits: Limits,
        unknown: UnknownTypes = KEPT,
        *,
        instance: str = "0",
        throttles: Throttles | None = None,
    ) -> None:
        self._codec = Codec(registry)
        self._registry = registry
        self._direct: dict[Any, Encode] = {}
        self._limits = limits
        self._unknown = unknown
        self._throttles = throttles or Throttles()
        self._source = f"{SOURCE}{instance}"
        self._numbers = itertools.count(time.time_ns() // 1000)

    def register(self) -> None:
        """Register all schemas now, so that one that does not fit is found at the start."""
        for name, cls in [*EVENT_TYPES.items()]:
            self._codec.prepare(EVENTS.name, cls)
            if encode := direct_encoder(self._registry, EVENTS.name, cls):
                self._direct[name] = encode
        self._codec.prepare(DEAD_LETTERS.name, DeadLetter)

    def take(self, events: Sequence[Any], sender: Sender) -> list[Answer]:
        """An answer for each event."""
        return [self._take(event, sender) for event in events]

    def _take(self, sent: Any, sender: Sender) -> Answer:
        try:
            return self._accepted(sent, sender)
        except InvalidEvent as error:
            code, kept = error.reason, error.keep
            reason = _legible(f"{code}: {error}")
        except Exception as error:  # a bug of ours must not cost the rest of the batch
            logger.exception("an event could not be taken")
            code, kept = "collector_failed", True
            reason = _legible(f"{code}: {type(error).__name__}: {error}")
        record = self._dead_letter(sent, code, reason, sender) if kept else None
        return Answer(_id_of(sent), reason, record)

    def _accepted(self, sent: Any, sender: Sender) -> Answer:
        if not isinstance(sent, dict):
            raise InvalidEvent("not_an_object", None, "an event is an object")
        allowed = sender.key.event_types
        if allowed is not None and sent.get("event_type") not in allowed:
            name = sender.key.name
            raise InvalidEvent(
                "forbidden_type",
                "event_type",
                f"not one that the write key {name} may send",
                keep=False,
            )
        limits = self._limits
        if not fits(sent, limits.depth, limits.items):
            told = f"more than {limits.depth} levels or {limits.items} items"
            raise InvalidEvent("too_complex", None, told)
        event_id, key, value = self._encoded(enriched(sent, sender))
        if len(value) > limits.event_bytes:
            told = f"{len(value)} bytes, at most {limits.event_bytes}"
            raise InvalidEvent("too_large", None, told)
        rate = self._throttles.refuses(key.decode(), sender.arrived / 1000)
        if rate is not None:
            told = f"this user is held to {rate:g} events a minute"
            raise InvalidEvent("throttled", None, told, keep=False)
        return Answer(event_id, None, Record(EVENTS.name, key, value))

    def _encoded(self, fields: dict[str, Any]) -> Encoded:
        name = fields.get("event_type")
        encode = self._direct.get(name) if isinstance(name, str) else None
        encoded = encode(fields) if encode is not None else None
        if encoded is not None:
            return encoded
        event = parse_event(fields, self._unknown)
        value = self._codec.encode(EVENTS.name, event)
        return Encoded(event.event_id, event.user_key.encode(), value)

    def _dead_letter(self, sent: Any, reason: str, detail: str, sender: Sender) -> Record:
        number = next(self._numbers)
        letter = DeadLetter(
            topic=self._source,
            partition=0,
            offset=number,
            schema_id=None,
            reason=reason,
            detail=detail,
            payload=_bytes(sent)[: self._limits.event_bytes],
            key=None,
            failed_at=sender.arrived,
            added=_added(sent, sender),
        )
        key = f"{self._source}/0/{number}".encode()
        return Record(DEAD_LETTERS.name, key, self._codec.encode(DEAD_LETTERS.name, letter))


def enriched(sent: dict[str, Any], sender: Sender) -> dict[str, Any]:
    """The event with what its request tells of it; never a change to what was sent."""
    event = {**sent, "received_at": sender.arrived}
    nested = sent.get("properties")
    given: dict[str, Any] = nested if isinstance(nested, dict) else {}
    if sent.get("event_type") != "custom" and not OURS.isdisjoint(given):
        event["properties"] = given = {k: v for k, v in given.items() if k not in OURS}
    if not event.get("event_id") and not given.get("event_id"):
        event["event_id"] = uuid7()
    if sender.shift and event.get("timestamp") is not None:
        event["timestamp"] = _shifted(event["timestamp"], sender.shift)
    if sender.country and _absent("country", event, given):
        event["country"] = sender.country
    agent = sender.agent
    if agent is not None:
        if agent.bot:
            event["bot"] = True
        elif (
            agent.device_type
            and _absent("device_type", event, given)
            and _absent("device", event, given)
        ):
            event["device_type"] = agent.device_type
        if agent.os and _absent("os", event, given):
            event["os"] = agent.os
        if agent.browser and _absent("browser", event, given):
            event["browser"] = agent.browser
    return event


def _added(sent: Any, sender: Sender) -> str | None:
    """What a request tells of its event beside what was sent, as JSON; None where that is none."""
    if not isinstance(sent, dict):
        return None
    try:
        event = enriched(sent, sender)
    except Exception:  # the event may be why nothing could be done
        return None
    told = {k: v for k, v in event.items() if k != "properties" and sent.get(k) != v}
    return _bytes(told).decode()


def _absent(name: str, event: dict[str, Any], nested: dict[str, Any]) -> bool:
    return event.get(name) is None and name not in nested


def _shifted(timestamp: Any, shift: int) -> Any:
    try:
        return to_millis(timestamp) + shift
    except (ValueError, TypeError, OverflowError):
        return timestamp  # validation says what is wrong with it


def _id_of(sent: Any) -> str | None:
    given = sent.get("event_id") if isinstance(sent, dict) else None
    return _legible(given) if isinstance(given, str) else None


def _legible(text: str) -> str:
    """The text for an answer: not too long, and UTF-8 whatever was sent."""
    return text[:MAX_REASON].encode(errors="replace").decode()


def _bytes(sent: Any) -> bytes:
    try:
        return orjson.dumps(sent)
    except TypeError:  # half of a surrogate pair, an integer of more than 64 bits
        return json.dumps(sent, separators=(",", ":")).encode()
