"""Records to bytes and back, one at a time, in Confluent's wire format.

Upstream: the SDK, the sinks' and the CLI's dead letters, tools that look at single records.
Downstream: Kafka. Whole batches go through `columnar.py` and `encoder.py`.

Invariants: a record is `0x00`, four bytes of schema id, one Avro datum and nothing after it;
values are Avro's primitives (a timestamp is an int of milliseconds), whatever the logical type.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import fastavro
from pydantic import BaseModel

from streamgauge.schemas.datum import record_writer
from streamgauge.schemas.derivation import Schema, avro_schema, subject
from streamgauge.schemas.errors import InvalidEvent, UndecodableRecord, UnknownSchema
from streamgauge.schemas.registry import Registry

MAGIC = b"\x00"
HEADER = 5
"""Bytes before the datum."""


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """One record, with the schema that wrote it."""

    schema_id: int
    name: str
    """The schema's full name: `streamgauge.PageView`."""
    record: dict[str, Any]


class Codec:
    """Encodes and decodes single records; registers what it writes, at its first use."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._encoders: dict[tuple[str, type], Callable[[Any], bytes]] = {}
        self._schemas: dict[int, tuple[str, Any]] = {}

    def encode(self, topic: str, record: Any) -> bytes:
        """An event or record of ours as bytes for a topic (its name without the namespace)."""
        encoder = self._encoders.get((topic, type(record)))
        if encoder is None:
            encoder = self.prepare(topic, type(record))
        return encoder(record)

    def prepare(self, topic: str, cls: type) -> Callable[[Any], bytes]:
        """Register the schema of a class now, not at its first use; what encodes its records."""
        encoder = self._encoders[topic, cls] = self._encoder(topic, cls)
        return encoder

    def decode(self, data: bytes) -> Decoded:
        """The record that these bytes hold; raises UndecodableRecord."""
        schema_id = header_id(data)
        known = self._schemas.get(schema_id)
        if known is None:
            known = self._schemas[schema_id] = self._parse(schema_id)
        name, schema = known
        return Decoded(
            schema_id=schema_id, name=name, record=read_datum(data, schema, schema_id=schema_id)
        )

    def _parse(self, schema_id: int) -> tuple[str, Any]:
        try:
            schema = self._registry.schema(schema_id)
        except UnknownSchema:
            detail = f"no schema has the id {schema_id}"
            raise UndecodableRecord("unknown_schema", detail, schema_id) from None
        parsed = parse(schema)
        if not isinstance(parsed, dict) or parsed["type"] != "record":
            raise UndecodableRecord("undecodable", "the schema is no record", schema_id)
        return parsed["name"], parsed

    def _encoder(self, topic: str, cls: type) -> Callable[[Any], bytes]:
        schema = avro_schema(cls)
        head = header(self._registry.register(subject(topic, cls), schema))
        values = _values_of(cls)
        write = record_writer(plain(schema))

        def encode(record: Any) -> bytes:
            out = bytearray(head)
            try:
                write(out, values(record))
            except (TypeError, ValueError, OverflowError, AttributeError, struct.error) as error:
                raise InvalidEvent("wrong_value", None, f"{cls.__name__}: {error}") from error
            return bytes(out)

        return encode


def header(schema_id: int) -> bytes:
    """The five bytes before a datum."""
    return MAGIC + struct.pack(">I", schema_id)


def header_id(data: bytes) -> int:
    """The schema id that a record's header names; raises UndecodableRecord."""
    if len(data) < HEADER or data[:1] != MAGIC:
        raise UndecodableRecord(
            "bad_header",
            f"not Confluent's wire format: begins with {data[:HEADER].hex() or 'nothing'}",
        )
    return int.from_bytes(data[1:HEADER])


def parse(schema: Schema) -> Any:
    """A schema as fastavro uses it, of primitives only."""
    return fastavro.parse_schema(plain(schema))


def plain(schema: Any) -> Any:
    """A schema without logical types: values stay what the bytes say."""
    if isinstance(schema, list):
        return [plain(branch) for branch in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {key: value for key, value in schema.items() if key != "logicalType"}
    for key in ("type", "items", "values"):
        if key in kept:
            kept[key] = plain(kept[key])
    if "fields" in kept:
        kept["fields"] = [plain(field) for field in kept["fields"]]
    return kept["type"] if set(kept) == {"type"} else kept


def read_datum(data: bytes, schema: Any, *, schema_id: int) -> dict[str, Any]:
    """The record after the header; all of it, or UndecodableRecord.

    Bytes that are no UTF-8 become U+FFFD in strings, as in `columnar.py`.
    """
    stream = io.BytesIO(data)
    stream.seek(HEADER)
    try:
        record = fastavro.schemaless_reader(stream, schema, None, handle_unicode_errors="replace")
    except Exception as error:  # fastavro raises whatever the bytes made it stumble over
        detail = f"{type(error).__name__}: {error}"
        raise UndecodableRecord("undecodable", detail, schema_id) from None
    left = len(data) - stream.tell()
    if left:
        raise UndecodableRecord("undecodable", f"{left} bytes after the record", schema_id)
    return record  # type: ignore[return-value]


def _values_of(cls: Any) -> Callable[[Any], dict[str, Any]]:
    """A record's fields by name."""
    if issubclass(cls, BaseModel):
        return vars
    names = [field["name"] for field in avro_schema(cls)["fields"]]
    return lambda record: {name: getattr(record, name) for name in names}
