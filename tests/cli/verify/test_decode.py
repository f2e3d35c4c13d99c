"""Every record is an event, a tick, or rejected for the worker's reason."""

import io

import fastavro
import pytest

from streamgauge.cli.verify.decode import EventDecoder
from streamgauge.cli.verify.recompute import Rejected, Tick
from streamgauge.schemas import records
from streamgauge.schemas.codec import Codec, header
from streamgauge.schemas.events import PageView
from streamgauge.schemas.registry import open_registry

T0 = 1_760_000_400_000


@pytest.fixture
def registry(tmp_path):
    return open_registry(f"file:{tmp_path / 'registry'}")


@pytest.fixture
def decode(registry):
    return EventDecoder(registry, ["page_url", "status"])


def record(registry, fields, values, name="somebody.Record"):
    """A record of a schema of somebody else's."""
    namespace, _, short = name.rpartition(".")
    schema = {"type": "record", "name": short, "namespace": namespace}
    schema["fields"] = [{"name": field, "type": kind} for field, kind in fields.items()]
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(schema), values)
    return header(registry.register(f"events-{name}", schema)) + out.getvalue()


def test_an_event_is_its_fields(decode, registry):
    view = PageView(event_id="e", user_id="u", timestamp=T0, page_url="/a", status=200)
    fields = decode(Codec(registry).encode("events", view))
    assert (fields["event_id"], fields["timestamp"], fields["page_url"]) == ("e", T0, "/a")


def test_a_tick_is_its_time(decode, registry):
    assert decode(Codec(registry).encode("events", records.Tick(timestamp=T0))) == Tick(T0)


@pytest.mark.parametrize("value", [None, b"", b"\0\0", b"{not avro}"])
def test_what_has_no_header_is_rejected(decode, value):
    assert decode(value) == Rejected("bad_header")


def test_an_unknown_schema_is_rejected(decode):
    assert decode(header(4711) + b"x") == Rejected("unknown_schema")


def test_bytes_too_few_or_too_many_are_rejected(decode, registry):
    view = PageView(event_id="e", user_id="u", timestamp=T0)
    value = Codec(registry).encode("events", view)
    assert decode(value[:-1]) == Rejected("undecodable")
    assert decode(value + b"\0") == Rejected("undecodable")


EVENT = {"event_id": "string", "event_type": "string", "timestamp": "long", "user_id": "string"}
VALUES = {"event_id": "e", "event_type": "page_view", "timestamp": T0, "user_id": "u"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"event_id": ""},
        {"event_type": ""},
        {"event_type": "tick"},
        {"timestamp": 0},
        {"timestamp": -1},
        {"timestamp": 7_258_118_400_000},
        {"user_id": ""},
    ],
)
def test_a_record_that_is_no_event_is_invalid(decode, registry, wrong):
    assert isinstance(decode(record(registry, EVENT, VALUES)), dict)
    assert decode(record(registry, EVENT, VALUES | wrong)) == Rejected("invalid")


def test_a_record_without_the_envelopes_fields_is_invalid(decode, registry):
    assert decode(record(registry, {"x": "long"}, {"x": 1})) == Rejected("invalid")


def test_an_anonymous_user_is_a_user_and_an_empty_one_hides_nobody(decode, registry):
    fields = {**EVENT, "user_id": ["null", "string"], "anonymous_id": "string"}
    anonymous = record(registry, fields, VALUES | {"user_id": None, "anonymous_id": "a"})
    assert isinstance(decode(anonymous), dict)
    emptied = record(registry, fields, VALUES | {"user_id": "", "anonymous_id": "a"})
    assert decode(emptied) == Rejected("invalid")


def test_a_field_of_another_type_than_ours_makes_its_schema_undecodable(decode, registry):
    fields = {**EVENT, "status": "string"}
    assert decode(record(registry, fields, VALUES | {"status": "200"})) == Rejected("undecodable")


def test_a_field_that_no_definition_reads_may_be_of_any_type(decode, registry):
    fields = {**EVENT, "referrer": "long"}
    assert isinstance(decode(record(registry, fields, VALUES | {"referrer": 1})), dict)


def test_a_schema_that_is_no_record_is_undecodable(registry):
    class Strings:
        def schema(self, schema_id):
            return "string"

    assert EventDecoder(Strings(), [])(header(1) + b"\0") == Rejected("undecodable")
