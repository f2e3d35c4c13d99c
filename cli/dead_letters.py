"""Dead letters as records again: each made the very way its original came in.

    a topic's record    its key and bytes, back to its partition
    collector:…         what was sent and what its request told, through the collector's intake
    sdk                 what was given to `track()`, read and encoded as the client does
    file:…              the line, read as `produce --file` does

Upstream: the topic `dead-letters`, by `streamgauge dlq replay`. Downstream: the topics. Invariants:
an event has the id that it would have had, so it is counted once however often it is sent; what
was cut off, or still cannot be used, stays where it is and says why.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from streamgauge.producers import files, undeclared
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.errors import InvalidEvent
from streamgauge.schemas.events import Event, parse_event
from streamgauge.schemas.registry import Registry
from streamgauge.schemas.topics import EVENTS, TOPICS
from streamgauge.schemas.unknown import UnknownTypes
from streamgauge.serving.collector import intake
from streamgauge.serving.collector.keys import WriteKey
from streamgauge.serving.collector.settings import Limits

Letter = Mapping[str, Any]

SENDER = WriteKey(name="dlq")
"""Whoever it was, the write key let it pass."""


@dataclass(frozen=True, kw_only=True)
class Again:
    """A record to send; without a partition it goes where its key belongs."""

    topic: str
    key: bytes | None
    value: bytes | None
    partition: int | None = None


@dataclass(frozen=True, kw_only=True)
class Stays:
    """Why a letter cannot be sent: a stable code, and what exactly is wrong."""

    reason: str
    detail: str


class Originals:
    """Makes records of letters."""

    def __init__(self, registry: Registry, unknown: UnknownTypes) -> None:
        self._codec = Codec(registry)
        self._intake = intake.Intake(registry, Limits(), unknown)
        self._unknown = unknown

    def again(self, letter: Letter) -> Again | Stays:
        """The record to send."""
        source = letter["topic"]
        if source in TOPICS:
            return Again(
                topic=source,
                key=letter["key"],
                value=letter["payload"],
                partition=letter["partition"],
            )
        try:
            if source.startswith(intake.SOURCE):
                return self._from_collector(letter)
            if source == undeclared.SOURCE:
                return self._encoded(parse_event(_sent(letter), self._unknown))
            if source.startswith(files.SOURCE):
                return self._encoded(self._from_line(letter))
        except InvalidEvent as error:
            return Stays(reason=error.reason, detail=str(error))
        return Stays(reason="unknown_source", detail=f"nothing is known of {source}")

    def _from_collector(self, letter: Letter) -> Again | Stays:
        sent = _sent(letter)
        if isinstance(sent, dict):
            sent |= _added(letter)
            nested = sent.get("properties")
            within = nested.get("event_id") if isinstance(nested, dict) else None
            sent["event_id"] = sent.get("event_id") or within or _own_id(letter)
        sender = intake.Sender(key=SENDER, arrived=letter["failed_at"])
        [answer] = self._intake.take([sent], sender)
        if answer.reason is not None or answer.record is None:
            reason, _, detail = (answer.reason or "").partition(": ")
            return Stays(reason=reason, detail=detail)
        return Again(topic=answer.record.topic, key=answer.record.key, value=answer.record.value)

    def _from_line(self, letter: Letter) -> Event:
        line: bytes = letter["payload"] or b""
        if letter["reason"] == files.TOO_LONG and len(line) >= files.MAX_LINE:
            raise InvalidEvent("truncated", None, f"only {len(line)} bytes of the line were kept")
        form = "jsonl" if line.lstrip().startswith(b"{") else "combined"

        def own_id() -> str:
            added = _added(letter)
            if "event_id" not in added:
                told = "the line has no event_id, nor has its letter: produce the file again"
                raise InvalidEvent("no_id", None, told)
            return str(added["event_id"])

        return files.event_of(line, form, own_id, self._unknown)

    def _encoded(self, event: Event) -> Again:
        value = self._codec.encode(EVENTS.name, event)
        return Again(topic=EVENTS.name, key=event.user_key.encode(), value=value)


def _sent(letter: Letter) -> Any:
    """What the payload says; raises InvalidEvent where it is not whole."""
    payload = letter["payload"] or b""
    try:
        return json.loads(payload)
    except (ValueError, RecursionError):
        told = f"only {len(payload)} bytes of what was sent were kept"
        raise InvalidEvent("truncated", None, told) from None


def _added(letter: Letter) -> dict[str, Any]:
    added: dict[str, Any] = json.loads(letter.get("added") or "{}")
    return added


def _own_id(letter: Letter) -> str:
    """The id of an event that was given none."""
    place = f"{letter['topic']}/{letter['partition']}/{letter['offset']}"
    return str(uuid.uuid5(uuid.NAMESPACE_OID, place))
