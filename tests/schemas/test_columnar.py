"""Batches to frames: each message is a row, a reject or a tombstone, whatever its neighbours."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Sequence
from typing import Any

import fastavro
import polars as pl
import pytest

from streamgauge.schemas.avro import RECORDS, avro_schema
from streamgauge.schemas.codec import Codec, header, plain
from streamgauge.schemas.columnar import DecodedBatch, Decoder
from streamgauge.schemas.envelope import COLUMNS
from streamgauge.schemas.errors import RegistryError, SchemaError
from streamgauge.schemas.events import (
    ButtonClick,
    Custom,
    Event,
    PageView,
    Playback,
    QuizAttempt,
    Request,
    Search,
    TaskUpdate,
)
from streamgauge.schemas.records import DeadLetter, MetricUpdate, Tick
from streamgauge.schemas.registry import Registry

FIRST = ["index", "partition", "offset", "append_time", "event_id", "event_type", "timestamp"]
FIRST += ["user_key", "consent_analytics"]

TIME = 1_700_000_000_000

EVENTS: list[Event] = [
    PageView(user_id="u1", page_url="/a", status=200, timestamp=TIME, consent_analytics=False),
    ButtonClick(anonymous_id="a1", element_id="b", page_url="/é", timestamp=TIME + 1),
    Playback(user_id="u2", position_ms=1.5, exploration=True, timestamp=TIME + 2),
    Search(user_id="u3", query="q", results_count=0, timestamp=1, filters={"a": "b", "c": None}),
    Custom(user_id="u3", name="n", timestamp=TIME, properties={}),
    Request(user_id="u4", duration_ms=-0.0, status=500, cache_hit=False, timestamp=TIME),
    TaskUpdate(user_id="u5", due_date=5, timestamp=TIME),  # type: ignore[call-arg]
    QuizAttempt(user_id="u6", anonymous_id="a6", score=2**60, timestamp=TIME),
]

Messages = Callable[..., list[Any]]


@pytest.fixture
def codec(registry: Registry) -> Codec:
    return Codec(registry)


@pytest.fixture
def messages(message: Any) -> Messages:
    """Values as messages of one partition, offsets counting up."""

    def make(values: Sequence[bytes | None], partition: int = 0) -> list[Any]:
        return [message(value, (partition, i), TIME + i) for i, value in enumerate(values)]

    return make


def write(registry: Registry, schema: Any, *records: dict[str, Any]) -> list[bytes]:
    """Records that somebody else wrote, with a schema of theirs."""
    head = header(registry.register(f"events-{schema['name']}", schema))
    values = []
    for record in records:
        out = io.BytesIO(head)
        out.seek(5)
        fastavro.schemaless_writer(out, fastavro.parse_schema(plain(schema)), record)
        values.append(out.getvalue())
    return values


def foreign(name: str, *fields: dict[str, Any], **types: Any) -> dict[str, Any]:
    """An event schema of somebody else."""
    envelope: dict[str, Any] = {"event_id": "string", "event_type": "string", "timestamp": "long"}
    envelope |= {"user_id": "string"} | types
    return {
        "type": "record",
        "name": name,
        "fields": [{"name": key, "type": kind} for key, kind in envelope.items()] + list(fields),
    }


FOREIGN = {"event_id": "e", "event_type": "theirs", "timestamp": 5, "user_id": "u"}


def reasons(batch: DecodedBatch) -> list[tuple[int, str]]:
    return [(reject.offset, reject.reason) for reject in batch.rejects]


def test_rows_hold_what_was_written(registry: Registry, codec: Codec, messages: Messages) -> None:
    values = [codec.encode("events", event) for event in EVENTS]
    frame = Decoder(registry, "events").decode(messages(values)).frame
    assert frame.columns[:9] == FIRST
    assert set(frame.columns[9:]) == {*COLUMNS, "control"} - set(FIRST)
    for row, value, event in zip(frame.iter_rows(named=True), values, EVENTS, strict=True):
        record = codec.decode(value).record
        assert {name: row[name] for name in record} == record
        assert all(row[name] is None for name in COLUMNS.keys() - record.keys())
        assert row["user_key"] == event.user_key
        assert row["append_time"] == TIME + row["offset"]


@pytest.mark.parametrize("columns", [None, frozenset({"page_url", "status", "filters"})])
def test_the_frame_has_the_same_columns_whatever_the_batch_holds(
    registry: Registry, codec: Codec, messages: Messages, columns: frozenset[str] | None
) -> None:
    decoder = Decoder(registry, "events", columns)
    empty = decoder.decode([]).frame
    assert empty.height == 0
    if columns:
        assert empty.columns == [*FIRST, "page_url", "status", "filters"]
    for events in ([EVENTS[0]], EVENTS[2:5], EVENTS, [Tick(timestamp=1)]):
        values = [codec.encode("events", event) for event in events]
        assert decoder.decode(messages(values)).frame.schema == empty.schema
    assert (
        dict(empty.schema).items()
        >= {
            "index": pl.UInt32(),
            "partition": pl.Int32(),
            "offset": pl.Int64(),
            "append_time": pl.Int64(),
            "timestamp": pl.Int64(),
            "event_type": pl.String(),
            "status": pl.Int64(),
            "consent_analytics": pl.Boolean(),
        }.items()
    )


def test_rows_are_sorted_by_partition_and_offset_and_know_their_message(
    registry: Registry, codec: Codec, message: Any
) -> None:
    places = [(partition, offset) for partition in range(3) for offset in range(7)]
    random.Random(1).shuffle(places)
    batch = [
        message(codec.encode("events", EVENTS[(p * 7 + o) % len(EVENTS)]), (p, o))
        for p, o in places
    ]
    frame = Decoder(registry, "events").decode(batch).frame
    assert frame.select("partition", "offset").rows() == sorted(places)
    assert [places[i] for i in frame["index"]] == sorted(places)
    assert frame["event_type"].to_list() == [
        EVENTS[(p * 7 + o) % len(EVENTS)].event_type for p, o in sorted(places)
    ]


def test_ticks_are_rows_of_their_own_type(
    registry: Registry, codec: Codec, messages: Messages
) -> None:
    records = [EVENTS[0], Tick(timestamp=TIME + 9), EVENTS[1], Tick(timestamp=-1)]
    batch = Decoder(registry, "events", {"index", "user_key"}).decode(
        messages([codec.encode("events", record) for record in records])
    )
    assert batch.frame.select("offset", "event_type", "timestamp", "event_id", "user_key").rows()[
        1
    ] == (1, "tick", TIME + 9, None, None)
    assert batch.frame["event_type"].to_list() == ["page_view", "tick", "button_click"]
    assert reasons(batch) == [(3, "invalid")]


def test_an_empty_record_and_a_double_one_do_not_spoil_their_neighbours(
    registry: Registry, codec: Codec, messages: Messages
) -> None:
    #   good  empty  double  good      joined without a guard, these read as four rows
    one = codec.encode("events", EVENTS[0])
    batch = Decoder(registry, "events").decode(messages([one, one[:5], one + one[5:], one]))
    assert batch.frame["offset"].to_list() == [0, 3]
    assert batch.frame["event_id"].to_list() == [EVENTS[0].event_id] * 2
    assert reasons(batch) == [(1, "undecodable"), (2, "undecodable")]


def test_what_is_no_record_is_rejected_with_its_reason(
    registry: Registry, codec: Codec, message: Any
) -> None:
    good = codec.encode("events", EVENTS[0])
    values = [None, b"", good[:3], b"{json}", header(99) + b"x", good[:-4], good + b"\x00", good]
    batch = Decoder(registry, "events").decode(
        [message(value, (2, i), TIME + i, b"k%d" % i) for i, value in enumerate(values)]
    )
    assert [(r.offset, r.reason, r.schema_id) for r in batch.rejects] == [
        (0, "bad_header", None),
        (1, "bad_header", None),
        (2, "bad_header", None),
        (3, "bad_header", None),
        (4, "unknown_schema", 99),
        (5, "undecodable", 1),
        (6, "undecodable", 1),
    ]
    assert batch.frame["offset"].to_list() == [7]
    reject = batch.rejects[4]
    assert (reject.topic, reject.partition, reject.append_time) == ("events", 2, TIME + 4)
    assert (reject.key, reject.payload) == (b"k4", header(99) + b"x")
    assert not batch.tombstones


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"event_id": ""}, "event_id: missing"),
        ({"event_id": None}, "event_id: missing"),
        ({"event_type": ""}, "event_type: missing"),
        ({"event_type": "tick"}, "event_type: tick is no event type"),
        ({"user_id": None}, "needs a user_id or an anonymous_id"),
        ({"user_id": ""}, "needs a user_id or an anonymous_id"),
        ({"timestamp": 0}, "timestamp: 0 is not between"),
        ({"timestamp": 7_258_118_400_000}, "timestamp: 7258118400000 is not"),
        ({"timestamp": None}, "timestamp: None is not"),
        ({"timestamp": 2**63 - 1}, "timestamp: 9223372036854775807 is not"),
    ],
)
def test_what_is_no_event_is_invalid(
    registry: Registry, messages: Messages, change: dict[str, Any], detail: str
) -> None:
    kinds = {"event_id": "string", "event_type": "string", "timestamp": "long", "user_id": "string"}
    schema = foreign("Lax", **{name: ["null", kind] for name, kind in kinds.items()})
    values = write(registry, schema, FOREIGN, FOREIGN | change, FOREIGN)
    batch = Decoder(registry, "events", frozenset()).decode(messages(values))
    assert batch.frame["offset"].to_list() == [0, 2]
    (reject,) = batch.rejects
    assert (reject.offset, reject.reason, reject.schema_id) == (1, "invalid", 1)
    assert reject.detail.startswith(detail)


def test_an_anonymous_id_stands_in_only_for_an_absent_user_id(
    registry: Registry, messages: Messages
) -> None:
    schema = foreign("Lax", user_id=["null", "string"], anonymous_id=["null", "string"])
    users = [("u", "a"), (None, "a"), ("", "a")]
    records = [FOREIGN | {"user_id": user, "anonymous_id": other} for user, other in users]
    batch = Decoder(registry, "events").decode(messages(write(registry, schema, *records)))
    assert batch.frame["user_key"].to_list() == ["u", "a"]
    assert reasons(batch) == [(2, "invalid")]


def test_acceptance_depends_neither_on_neighbours_nor_on_columns(
    registry: Registry, codec: Codec, messages: Messages
) -> None:
    luck = random.Random(7)
    values = []
    for i in range(400):
        value = bytearray(codec.encode("events", EVENTS[i % len(EVENTS)]))
        if luck.random() < 0.3:
            at = luck.randrange(5, len(value))
            change = luck.randrange(4)
            if change == 0:
                value[at] = luck.randrange(256)
            elif change == 1:
                del value[at:]
            elif change == 2:
                value.insert(at, luck.randrange(256))
            else:
                value += value[5:]
        values.append(bytes(value))
    batch = messages(values)
    decoder = Decoder(registry, "events")
    whole = decoder.decode(batch)
    assert whole.frame.height + len(whole.rejects) == len(values)
    assert 20 < len(whole.rejects) < 150
    alone = [decoder.decode([one]) for one in batch]
    assert pl.concat([one.frame for one in alone]).drop("index").equals(whole.frame.drop("index"))
    assert [reject for one in alone for reject in one.rejects] == whole.rejects
    few = Decoder(registry, "events", {"status", "properties"}).decode(batch)
    assert few.rejects == whole.rejects
    assert few.frame.equals(whole.frame.select(few.frame.columns))


def test_good_records_survive_however_many_are_bad(
    registry: Registry, codec: Codec, messages: Messages
) -> None:
    good = codec.encode("events", EVENTS[0])
    values = [good if i % 3 else good[:40] for i in range(1000)]
    batch = Decoder(registry, "events", frozenset()).decode(messages(values))
    assert batch.frame["offset"].to_list() == [i for i in range(1000) if i % 3]
    assert len(batch.rejects) == 334


def test_bytes_that_are_no_utf8_become_replacement_characters(
    registry: Registry, codec: Codec, messages: Messages
) -> None:
    event = Search(user_id="u", query="abc", filters={"abc": "x"}, page_url="/p")
    value = codec.encode("events", event)
    batch = Decoder(registry, "events").decode(messages([value, value.replace(b"abc", b"a\xffc")]))
    assert not batch.rejects
    assert batch.frame["query"].to_list() == ["abc", "a\ufffdc"]
    assert batch.frame["filters"].to_list()[1] == [{"key": "a\ufffdc", "value": "x"}]


def test_other_writers_columns_become_ours(registry: Registry, messages: Messages) -> None:
    schema = foreign(
        "Theirs",
        {"name": "status", "type": "int"},  # promoted
        {"name": "duration_ms", "type": "float"},
        {"name": "title", "type": "bytes"},
        {"name": "dropped", "type": ["null", "string"]},
        timestamp={"type": "long", "logicalType": "timestamp-millis"},
    )
    theirs = {"status": 200, "duration_ms": 1.5, "title": b"t"}
    values = write(registry, schema, FOREIGN | theirs | {"dropped": "x"})
    columns = {"status", "duration_ms", "title", "country"}
    batch = Decoder(registry, "events", columns).decode(messages(values))
    assert not batch.rejects
    row = batch.frame.row(0, named=True)
    assert {name: row[name] for name in columns} == theirs | {"title": "t", "country": None}
    assert "dropped" not in batch.frame.columns


MAP = {"name": "extra", "type": {"type": "map", "values": "string"}}
UNION = {"name": "page_url", "type": ["null", "int", "string"]}


def test_a_schema_that_polars_cannot_read_is_read_all_the_same(
    registry: Registry, codec: Codec, messages: Messages
) -> None:
    schema = foreign("Mapped", MAP, {"name": "status", "type": ["null", "int"]})
    record = FOREIGN | {"extra": {"a": "b"}, "status": 7}
    theirs = write(registry, schema, record, record | {"status": None})
    ours = codec.encode("events", EVENTS[0])
    batch = Decoder(registry, "events", {"status"}).decode(
        messages([theirs[0], ours, theirs[1], theirs[1][:-1]])
    )
    assert batch.frame["status"].to_list() == [7, 200, None]
    assert reasons(batch) == [(3, "undecodable")]


def test_a_column_of_another_type_than_ours_is_rejected_by_name(
    registry: Registry, messages: Messages
) -> None:
    values = write(registry, foreign("Clash", UNION), FOREIGN | {"page_url": "/"})
    batch = Decoder(registry, "events", {"page_url"}).decode(messages(values))
    assert reasons(batch) == [(0, "undecodable")]
    assert batch.rejects[0].detail == "page_url: int was written, none of [null, string] reads it"
    # also for those who do not ask for it: all readers of a topic agree on what is an event
    few = Decoder(registry, "events", {"status"}).decode(messages(values))
    assert few.rejects == batch.rejects


def test_arrays_in_blocks_with_sizes_are_read(registry: Registry, messages: Messages) -> None:
    schema = foreign("Blocks", {"name": "filters", "type": avro_type("filters")})
    (value,) = write(registry, schema, FOREIGN | {"filters": [{"key": "a", "value": None}]})
    # One item, written as Java's blocking encoder does: minus the count, the size, the items.
    assert value.endswith(b"\x02\x02\x02a\x00\x00")
    blocked = value[:-6] + b"\x02\x01\x06\x02a\x00\x00"
    frame = Decoder(registry, "events", {"filters"}).decode(messages([value, blocked])).frame
    assert frame["filters"].to_list() == [[{"key": "a", "value": None}]] * 2


def avro_type(name: str) -> Any:
    return COLUMNS[name]


def test_schemas_that_are_no_records_are_rejected(registry: Registry, messages: Messages) -> None:
    registry.register("events-x", "string")  # type: ignore[arg-type]
    batch = Decoder(registry, "events").decode(messages([header(1) + b"\x02a"]))
    assert reasons(batch) == [(0, "undecodable")]


class Failing:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def schema(self, schema_id: int) -> Any:
        raise self.error


def test_a_registry_that_does_not_answer_is_no_reason_to_reject(messages: Messages) -> None:
    down: Any = Failing(RegistryError("down", retryable=True))
    with pytest.raises(RegistryError):
        Decoder(down, "events").decode(messages([header(1)]))


def test_a_schema_of_another_kind_is_rejected(messages: Messages) -> None:
    protobuf: Any = Failing(SchemaError("a schema of type PROTOBUF"))
    batch = Decoder(protobuf, "events").decode(messages([header(1)]))
    assert reasons(batch) == [(0, "undecodable")]


def test_columns_that_no_record_has_are_refused_with_a_suggestion(registry: Registry) -> None:
    with pytest.raises(SchemaError, match=r"events has a field pageurl; did you mean page_url\?"):
        Decoder(registry, "events", {"pageurl"})


UPDATE = MetricUpdate(
    window_start=TIME,
    window_size="1m",
    dimensions="{}",
    version="0123abcd",
    users=None,
    is_final=True,
    watermark=TIME,
    metrics=("page_views",),
    values=(1.0,),
    numerators=(1.0,),
    denominators=(1.0,),
)


def test_other_topics_have_their_records_columns_and_tombstones(
    registry: Registry, codec: Codec, messages: Messages
) -> None:
    value = codec.encode("metrics", UPDATE)
    batch = Decoder(registry, "metrics").decode(messages([value, None, value, b"bad"]))
    assert batch.tombstones == [1]
    assert reasons(batch) == [(3, "bad_header")]
    assert batch.frame["offset"].to_list() == [0, 2]
    assert batch.frame.columns[4:] == [f["name"] for f in avro_schema(MetricUpdate)["fields"]]
    row = batch.frame.row(0, named=True)
    assert (row["metrics"], row["values"], row["users"]) == (["page_views"], [1.0], None)


def test_a_topic_that_only_deletes_has_no_tombstones(
    registry: Registry, messages: Messages
) -> None:
    batch = Decoder(registry, "dead-letters").decode(messages([None]))
    assert (reasons(batch), batch.tombstones) == ([(0, "bad_header")], [])


def test_every_record_of_ours_can_be_decoded(registry: Registry) -> None:
    for topic in ("dead-letters", "late-events", "metric-partials", "metric-users"):
        assert Decoder(registry, topic).decode([]).frame.height == 0
    assert {DeadLetter, MetricUpdate} < set(RECORDS.values())


def test_a_topic_of_somebody_else_has_the_columns_of_its_schemas(
    registry: Registry, messages: Messages
) -> None:
    enum = {"type": "enum", "name": "E", "symbols": ["tv", "mobile"]}
    one = foreign("One", {"name": "n", "type": "int"}, MAP, {"name": "enum", "type": enum})
    two = foreign("Two", {"name": "m", "type": {"type": "array", "items": "float"}})
    values = write(registry, one, FOREIGN | {"n": 1, "extra": {"a": "b"}, "enum": "tv"})
    values += write(registry, two, FOREIGN | {"m": [0.5]})
    frame = Decoder(registry, "theirs").decode(messages(values)).frame
    assert frame.select("event_id", "n", "extra", "enum", "m").rows() == [
        ("e", 1, '{"a": "b"}', "tv", None),
        ("e", None, None, None, [0.5]),
    ]
    assert Decoder(registry, "theirs", {"n"}).decode(messages(values)).frame.columns[4:] == ["n"]


class TestOpenEnded:
    """Columns that no class of ours has, from the batch on in which a newer writer is."""

    def newer(self, registry: Registry, name: str, kind: Any, value: Any) -> list[bytes]:
        schema = foreign(name, {"name": "currency", "type": kind})
        return write(registry, schema, FOREIGN | {"currency": value})

    def test_a_new_field_is_a_column_from_then_on(
        self, registry: Registry, codec: Codec, messages: Messages
    ) -> None:
        decoder = Decoder(registry, "events", open_ended=True)
        old = codec.encode("events", EVENTS[0])
        assert "currency" not in decoder.decode(messages([old])).frame.columns
        (new,) = self.newer(registry, "V2", ["null", "string"], "EUR")
        both = decoder.decode(messages([old, new, old])).frame
        assert both["currency"].to_list() == [None, "EUR", None]
        assert decoder.decode(messages([old])).frame["currency"].to_list() == [None]
        assert "currency" not in Decoder(registry, "events").decode(messages([new])).frame.columns

    def test_two_writers_with_two_types_refuse_nobody(
        self, registry: Registry, messages: Messages
    ) -> None:
        decoder = Decoder(registry, "events", open_ended=True)
        values = self.newer(registry, "V2", "string", "EUR")
        values += self.newer(registry, "V3", "double", 1.5)
        batch = decoder.decode(messages(values))
        assert batch.rejects == []
        assert batch.frame["currency"].to_list() == ["EUR", None]
