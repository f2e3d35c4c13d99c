"""Decodes raw records of `events` one at a time with fastavro: no frames, no columns.

Upstream: bytes from the topic or the archive. Downstream: the recomputation. Invariant: every
record is exactly one of event, tick or rejected, by the same reasons as the worker's.
"""

import io
from collections.abc import Iterable, Mapping
from typing import Any

import fastavro

from streamgauge.cli.verify.recompute import Rejected, Tick
from streamgauge.schemas.codec import HEADER, MAGIC, parse, plain
from streamgauge.schemas.compatibility import backward_problems
from streamgauge.schemas.envelope import COLUMNS, MAX_TIMESTAMP
from streamgauge.schemas.errors import SchemaError, UnknownSchema
from streamgauge.schemas.registry import Registry

_TICK, _TICK_TYPE = "streamgauge.Tick", "tick"
_ENVELOPE = ("event_id", "event_type", "timestamp", "user_id", "anonymous_id", "consent_analytics")


class EventDecoder:
    """Schemas are asked for once each; a record costs one pass of fastavro.

    `columns` are the fields that the definitions read: a schema that has one of them in another
    type than ours is not ours to read.
    """

    def __init__(self, registry: Registry, columns: Iterable[str]) -> None:
        self._registry = registry
        self._columns = {name: COLUMNS[name] for name in (*_ENVELOPE, *columns)}
        self._schemas: dict[bytes, Any] = {}

    def __call__(self, value: bytes | None) -> Mapping[str, Any] | Tick | Rejected:
        """The event's fields, a tick, or why it is neither."""
        if value is None or len(value) < HEADER or value[:1] != MAGIC:
            return Rejected("bad_header")
        head = value[:HEADER]
        schema = self._schemas.get(head)
        if schema is None:
            schema = self._schemas[head] = self._schema(int.from_bytes(head[1:]))
        if isinstance(schema, Rejected):
            return schema
        stream = io.BytesIO(value)
        stream.seek(HEADER)
        try:
            record: Any = fastavro.schemaless_reader(stream, schema, None)
        except Exception:  # fastavro raises whatever the bytes made it stumble over
            return Rejected("undecodable")
        if stream.tell() != len(value):
            return Rejected("undecodable")
        if not 0 < (record.get("timestamp") or 0) < MAX_TIMESTAMP:
            return Rejected("invalid")
        if schema["name"] == _TICK:
            return Tick(record["timestamp"], record.get("control"))
        user = record.get("user_id")
        if user is None:
            user = record.get("anonymous_id")
        kind = record.get("event_type")
        if not user or not record.get("event_id") or not kind or kind == _TICK_TYPE:
            return Rejected("invalid")
        return record  # type: ignore[no-any-return]

    def _schema(self, schema_id: int) -> Any:
        """The parsed schema of an id, or why its records are rejected."""
        try:
            schema = plain(self._registry.schema(schema_id))
        except UnknownSchema:
            return Rejected("unknown_schema")
        except SchemaError:
            return Rejected("undecodable")
        if not isinstance(schema, dict) or schema.get("type") != "record":
            return Rejected("undecodable")
        fields = {field["name"]: field["type"] for field in schema["fields"]}
        shared = [name for name in self._columns if name in fields]
        ours = _record({name: _nullable(plain(self._columns[name])) for name in shared})
        theirs = _record({name: fields[name] for name in shared})
        return Rejected("undecodable") if backward_problems(ours, theirs) else parse(schema)


def _record(fields: Mapping[str, Any]) -> dict[str, Any]:
    named = [{"name": name, "type": kind} for name, kind in fields.items()]
    return {"type": "record", "name": "r", "fields": named}


def _nullable(kind: Any) -> Any:
    return kind if isinstance(kind, list) else ["null", kind]
