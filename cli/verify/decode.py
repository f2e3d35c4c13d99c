"""Decodes raw records of `events` one at a time with fastavro: no frames, no columns.

Upstream: bytes from the topic or the archive. Downstream: the recomputation. Invariant: every
record is exactly one of event, tick or rejected, by the same reasons as the worker's.
"""

import io
from collections.abc import Mapping
from typing import Any

import fastavro

from streamgauge.cli.verify.recompute import Rejected, Tick
from streamgauge.schemas.codec import HEADER, MAGIC, parse
from streamgauge.schemas.errors import UnknownSchema
from streamgauge.schemas.registry import Registry

_TICK = "streamgauge.Tick"


class EventDecoder:
    """Schemas are asked for once each; a record costs one pass of fastavro."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._schemas: dict[bytes, Any] = {}

    def __call__(self, value: bytes | None) -> Mapping[str, Any] | Tick | Rejected:
        """The event's fields, a tick, or why it is neither."""
        if value is None or len(value) < HEADER or value[:1] != MAGIC:
            return Rejected("bad_header")
        head = value[:HEADER]
        schema = self._schemas.get(head)
        if schema is None:
            try:
                schema = parse(self._registry.schema(int.from_bytes(head[1:])))
            except UnknownSchema:
                return Rejected("unknown_schema")
            self._schemas[head] = schema
        stream = io.BytesIO(value)
        stream.seek(HEADER)
        try:
            record: Any = fastavro.schemaless_reader(stream, schema, None)
        except Exception:  # fastavro raises whatever the bytes made it stumble over
            return Rejected("undecodable")
        if stream.tell() != len(value):
            return Rejected("undecodable")
        if schema["name"] == _TICK:
            return Tick(record["timestamp"])
        return record
