"""Single records to bytes and back."""

from __future__ import annotations

import io
from typing import Any

import fastavro
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from streamgauge.schemas.avro import avro_schema
from streamgauge.schemas.codec import Codec, header, header_id, parse, plain
from streamgauge.schemas.errors import InvalidEvent, UndecodableRecord
from streamgauge.schemas.events import Custom, PageView
from streamgauge.schemas.records import DeadLetter, MetricUpdate, Tick
from streamgauge.schemas.registry import Registry

longs = st.integers(-(2**63), 2**63 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
updates = st.builds(
    MetricUpdate,
    window_start=longs,
    window_size=texts,
    dimensions=texts,
    version=texts,
    users=st.none() | longs,
    is_final=st.booleans(),
    watermark=longs,
    metrics=st.lists(st.none() | texts, max_size=3).map(tuple),
    values=st.lists(st.none() | st.floats(), max_size=3).map(tuple),
    numerators=st.just((0.1, -0.0)),
    denominators=st.just(()),
)


def datum(record: Any) -> bytes:
    """What fastavro writes."""
    out = io.BytesIO()
    values = {f["name"]: getattr(record, f["name"]) for f in avro_schema(type(record))["fields"]}
    values = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
    if isinstance(record, Custom) and record.properties is not None:
        values["properties"] = [pair.model_dump() for pair in record.properties]
    fastavro.schemaless_writer(out, parse(avro_schema(type(record))), values)
    return out.getvalue()


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(updates)
def test_records_are_written_as_fastavro_writes_them(registry: Registry, update: Any) -> None:
    data = Codec(registry).encode("metrics", update)
    assert data[5:] == datum(update)


@settings(deadline=None, suppress_health_check=list(HealthCheck))
@given(texts, st.integers(1, 10**12), st.none() | st.dictionaries(texts, st.none() | texts))
@example("é" * 200, 5, {})
def test_events_are_written_as_fastavro_writes_them(
    registry: Registry, text: str, time: int, properties: Any
) -> None:
    event = Custom(
        user_id="u" + text, timestamp=time, name="n", properties=properties, consent_analytics=False
    )
    data = Codec(registry).encode("events", event)
    assert data[5:] == datum(event)


def test_what_is_encoded_is_decoded(registry: Registry) -> None:
    letter = DeadLetter(
        topic="events",
        partition=1,
        offset=2**40,
        schema_id=None,
        reason="bad_header",
        detail="é",
        payload=b"\xff",
        key=None,
        failed_at=-5,
    )
    codec = Codec(registry)
    decoded = codec.decode(codec.encode("dead-letters", letter))
    assert (decoded.schema_id, decoded.name) == (1, "streamgauge.DeadLetter")
    assert DeadLetter(**decoded.record) == letter


def test_a_type_registers_under_topic_and_name_at_its_first_use(registry: Registry) -> None:
    codec = Codec(registry)
    codec.encode("events", PageView(user_id="u"))
    codec.encode("events", PageView(user_id="u"))
    codec.encode("events", Tick(timestamp=1))
    assert registry.subjects() == ["events-streamgauge.PageView", "events-streamgauge.Tick"]


@pytest.mark.parametrize("wrong", ["text", 2**63, 1.5])
def test_a_value_that_does_not_fit_is_refused_when_encoding(registry: Registry, wrong: Any) -> None:
    with pytest.raises(InvalidEvent, match="Tick"):
        Codec(registry).encode("events", Tick(timestamp=wrong))


def test_header_and_its_id() -> None:
    assert header(258) == b"\x00\x00\x00\x01\x02"
    assert header_id(b"\x00\x00\x00\x01\x02datum") == 258


@pytest.mark.parametrize(
    ("change", "reason", "detail"),
    [
        (lambda data: b"", "bad_header", "begins with nothing"),
        (lambda data: data[:4], "bad_header", "begins with 00000000"),
        (lambda data: b"{" + data[1:], "bad_header", "begins with 7b"),
        (lambda data: header(77) + data[5:], "unknown_schema", "no schema has the id 77"),
        (lambda data: data[:-1], "undecodable", "EOFError"),
        (lambda data: data[:5], "undecodable", "EOFError"),
        (lambda data: data + b"\x00\x00", "undecodable", "2 bytes after the record"),
    ],
)
def test_bytes_that_are_no_record_say_why(
    registry: Registry, change: Any, reason: str, detail: str
) -> None:
    codec = Codec(registry)
    data = change(codec.encode("events", PageView(user_id="u")))
    with pytest.raises(UndecodableRecord, match=detail) as refused:
        codec.decode(data)
    assert refused.value.reason == reason


def test_a_schema_that_is_no_record_is_refused(registry: Registry) -> None:
    schema_id = registry.register("s", "string")  # type: ignore[arg-type]
    with pytest.raises(UndecodableRecord, match="no record"):
        Codec(registry).decode(header(schema_id) + b"\x02a")


def test_bytes_that_are_no_utf8_become_replacement_characters(registry: Registry) -> None:
    codec = Codec(registry)
    data = codec.encode("events", PageView(user_id="u", title="abc"))
    assert codec.decode(data.replace(b"abc", b"a\xffc")).record["title"] == "a\ufffdc"


def test_logical_types_are_read_as_their_primitives() -> None:
    time = {"type": "long", "logicalType": "timestamp-millis"}
    uuid = {"type": "string", "logicalType": "uuid"}
    fields = [
        {"name": "a", "type": ["null", time]},
        {"name": "b", "type": {"type": "array", "items": uuid}},
    ]
    assert plain({"type": "record", "name": "R", "fields": fields})["fields"] == [
        {"name": "a", "type": ["null", "long"]},
        {"name": "b", "type": {"type": "array", "items": "string"}},
    ]
