"""The simulator's events as bytes, without validating each of them.

Upstream: `world.py`'s events, dicts that their types would accept (a test sees to it).
Downstream: `faults.py`. Fields that an event does not have are null.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streamgauge.schemas.codec import header, plain
from streamgauge.schemas.datum import record_writer
from streamgauge.schemas.derivation import avro_schema, subject
from streamgauge.schemas.events import EVENT_TYPES
from streamgauge.schemas.registry import Registry
from streamgauge.schemas.topics import EVENTS


class EventEncoder:
    """Registers each type's schema at its first event."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._encoders: dict[str, Callable[[dict[str, Any]], bytes]] = {}

    def __call__(self, event: dict[str, Any]) -> bytes:
        encoder = self._encoders.get(event["event_type"])
        if encoder is None:
            encoder = self._encoders[event["event_type"]] = self._encoder(event["event_type"])
        return encoder(event)

    def _encoder(self, event_type: str) -> Callable[[dict[str, Any]], bytes]:
        cls = EVENT_TYPES[event_type]
        schema = avro_schema(cls)
        head = header(self._registry.register(subject(EVENTS.name, cls), schema))
        write = record_writer(plain(schema))
        blank = dict.fromkeys(field["name"] for field in schema["fields"])

        def encode(event: dict[str, Any]) -> bytes:
            out = bytearray(head)
            write(out, {**blank, **event})
            return bytes(out)

        return encode
