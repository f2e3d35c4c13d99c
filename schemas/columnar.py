"""Batches of Kafka messages to frames.

Upstream: consumers (worker, sinks, `verify`) with messages of one topic. Downstream: computations
on frames. All of a schema's records are read at once (`container.py`); what polars cannot read
goes record by record through fastavro.

Invariants: every message is a row of the frame, a reject or a tombstone, and which of them (and
the row's values) depends on the message and its schema alone; rows are sorted by partition and
offset; the frame has the same columns and types whatever the batch holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Protocol

import numpy as np
import polars as pl

from streamgauge.schemas.avro import RECORDS, avro_schema
from streamgauge.schemas.codec import HEADER, header_id, parse, plain, read_datum
from streamgauge.schemas.compatibility import backward_problems
from streamgauge.schemas.container import Container, Part
from streamgauge.schemas.dtypes import cast, column, dtype, readable, strings_as_bytes
from streamgauge.schemas.envelope import COLUMNS, MAX_TIMESTAMP
from streamgauge.schemas.errors import SchemaError, UndecodableRecord, UnknownSchema
from streamgauge.schemas.registry import Registry
from streamgauge.schemas.reject import Reject
from streamgauge.schemas.topics import EVENTS, TOPICS

TICK = "tick"
"""The event_type of rows that are ticks."""

TICK_RECORD = "streamgauge.Tick"
PLACE = ("index", "partition", "offset", "append_time")
"""The columns that every frame has: where and when the message was appended."""

FIRST = ("event_id", "event_type", "timestamp", "user_key", "consent_analytics")
"""The columns that every frame of events has."""

CORE = ("event_id", "event_type", "timestamp", "user_id", "anonymous_id", "consent_analytics")
"""What is always read of an event."""


class Message(Protocol):
    """confluent_kafka.Message, as far as it is used here."""

    def value(self) -> bytes | None: ...
    def key(self) -> bytes | None: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def timestamp(self) -> tuple[int, int]: ...


@dataclass(frozen=True, kw_only=True)
class DecodedBatch:
    """What became of the messages of a batch."""

    frame: pl.DataFrame
    """index (UInt32, the message's place in the batch), partition (Int32), offset (Int64),
    append_time (Int64, ms), all of the message; then the record's columns, of events first
    event_id, event_type, timestamp, user_key, consent_analytics."""
    rejects: list[Reject]
    tombstones: list[int]
    """Places of messages without a value; only in compacted topics, elsewhere they are rejects."""


class Decoder:
    """Decodes batches of one topic; `columns` are those that somebody needs (None: all)."""

    def __init__(
        self, registry: Registry, topic: str, columns: Iterable[str] | None = None
    ) -> None:
        """`topic` is the name without the namespace."""
        self._registry = registry
        self._topic = topic
        self._events = topic == EVENTS.name
        self._compacted = topic in TOPICS and TOPICS[topic].compacted
        self._plans: dict[bytes, _Plan] = {}
        self._empty: pl.DataFrame | None = None
        known = _columns_of(topic)
        wanted = known if columns is None else _wanted(known, set(columns), topic)
        # A topic of somebody else has the columns that its schemas bring.
        self._open = not known
        self._asked = None if columns is None else frozenset(columns)
        if self._events:
            self._event_columns = list(dict.fromkeys(("index", *FIRST, *wanted)))
            wanted = {name: known[name] for name in CORE} | wanted
        self._columns = {name: _nullable(kind) for name, kind in wanted.items()}

    def decode(self, messages: Sequence[Message]) -> DecodedBatch:
        """The messages as rows, rejects and tombstones."""
        values = [message.value() for message in messages]
        rejects: list[Reject] = []
        tombstones: list[int] = []
        records: list[pl.DataFrame] = []
        ticks: list[pl.DataFrame] = []
        for head, at in _by_header(values).items():
            if head is None and self._compacted:
                tombstones = at
                continue
            try:
                plan = self._plan(head)
            except UndecodableRecord as error:
                rejects += [self._reject(messages[i], error) for i in at]
                continue
            parts, bad = plan.read([values[i] for i in at], at)  # type: ignore[misc]
            (ticks if plan.is_tick else records).extend(parts)
            rejects += [self._reject(messages[i], error) for i, error in bad]
        frame = self._joined(records)
        if self._events:
            frame = self._valid(frame, messages, rejects)
            if ticks:
                frame.extend(self._valid_ticks(ticks, messages, rejects))
        if rejects:
            rejects.sort(key=lambda reject: (reject.partition, reject.offset))
        return DecodedBatch(frame=_placed(frame, messages), rejects=rejects, tombstones=tombstones)

    def _plan(self, head: bytes | None) -> _Plan:
        if head is None:
            raise UndecodableRecord("bad_header", "the record has no value")
        plan = self._plans.get(head)
        if plan is None:
            schema_id = header_id(head)
            try:
                schema = self._registry.schema(schema_id)
            except UnknownSchema:
                detail = f"no schema has the id {schema_id}"
                raise UndecodableRecord("unknown_schema", detail, schema_id) from None
            except SchemaError as error:
                raise UndecodableRecord("undecodable", str(error), schema_id) from None
            if self._open:
                self._empty = None
                self._columns |= {
                    item["name"]: _nullable(item["type"])
                    for item in schema.get("fields", ())
                    if item["name"] not in self._columns
                    and item["name"] not in PLACE
                    and (self._asked is None or item["name"] in self._asked)
                }
            plan = self._plans[head] = _Plan(schema_id, plain(schema), self._columns)
        return plan

    def _joined(self, parts: list[pl.DataFrame]) -> pl.DataFrame:
        """All parts in one frame with all columns, in their final types."""
        if self._empty is None:
            self._empty = pl.DataFrame(
                schema={"index": pl.UInt32}
                | {name: dtype(strings_as_bytes(kind)) for name, kind in self._columns.items()}
            )
            self._types = {name: dtype(kind) for name, kind in self._columns.items()}
        frame = pl.concat([self._empty, *parts], how="diagonal", rechunk=True)
        return pl.DataFrame(
            [frame["index"], *(cast(frame[name], kind) for name, kind in self._types.items())]
        )

    def _valid(
        self, frame: pl.DataFrame, messages: Sequence[Message], rejects: list[Reject]
    ) -> pl.DataFrame:
        """The rows that are events, with their user_key; the others go to `rejects`."""
        user_key = frame["user_id"]
        if user_key.null_count():
            user_key = user_key.zip_with(user_key.is_not_null(), frame["anonymous_id"])
        frame.insert_column(0, user_key.alias("user_key"))
        if _has_fault(frame):
            valid = ~frame.select(FAULTY).to_series()
            for row in frame.filter(~valid).iter_rows(named=True):
                error = UndecodableRecord("invalid", _fault(row))
                rejects.append(self._reject(messages[row["index"]], error))
            frame = frame.filter(valid)
        return frame[self._event_columns]

    def _valid_ticks(
        self, parts: list[pl.DataFrame], messages: Sequence[Message], rejects: list[Reject]
    ) -> pl.DataFrame:
        frame = self._joined(parts).with_columns(
            event_type=pl.lit(TICK), user_key=pl.lit(None, pl.String)
        )
        late = frame.select(_outside_time()).to_series()
        for row in frame.filter(late).iter_rows(named=True):
            error = UndecodableRecord("invalid", _time_fault(row))
            rejects.append(self._reject(messages[row["index"]], error))
        return frame.filter(~late)[self._event_columns]

    def _reject(self, message: Message, error: UndecodableRecord) -> Reject:
        payload = message.value()
        schema_id = error.schema_id
        if schema_id is None and error.reason == "invalid":
            schema_id = header_id(payload or b"")
        return Reject(
            topic=self._topic,
            partition=message.partition(),
            offset=message.offset(),
            reason=error.reason,
            detail=error.detail,
            schema_id=schema_id,
            key=message.key(),
            payload=payload,
            append_time=message.timestamp()[1],
        )


class _Plan:
    """How the records of one writer's schema become the columns wanted."""

    def __init__(self, schema_id: int, schema: Any, columns: Mapping[str, Any]) -> None:
        if not isinstance(schema, dict) or schema.get("type") != "record":
            raise UndecodableRecord("undecodable", "the schema is no record", schema_id)
        written = {item["name"]: item["type"] for item in schema["fields"]}
        shared = [name for name in columns if name in written]
        problems = [
            problem
            for name in shared
            for problem in backward_problems(_field(name, columns), _field(name, written))
        ]
        if problems:
            raise UndecodableRecord("undecodable", "; ".join(problems), schema_id)
        self.is_tick = parse(schema)["name"] == TICK_RECORD
        self._schema_id = schema_id
        self._parsed = parse(schema)
        self._container = Container(schema, shared) if readable(schema) else None
        self._types = {name: dtype(columns[name]) for name in shared}
        self._raw = {name: dtype(strings_as_bytes(columns[name])) for name in shared}
        self._promoted = [
            name for name in shared if dtype(strings_as_bytes(written[name])) != self._raw[name]
        ]

    def read(
        self, values: Sequence[bytes], at: Sequence[int]
    ) -> tuple[list[pl.DataFrame], list[tuple[int, UndecodableRecord]]]:
        """The rows, with their places as `index`; and what is no record, with the reason."""
        parts: list[Part] = []
        doubtful: Sequence[int] = range(len(values))
        if self._container:
            parts, doubtful = self._container.sort_out(values, doubtful)
        frames = [
            self._promote(frame).insert_column(
                0, pl.Series("index", [at[i] for i in places], pl.UInt32)
            )
            for frame, places in parts
        ]
        rows: list[dict[str, Any]] = []
        good: list[int] = []
        bad: list[tuple[int, UndecodableRecord]] = []
        for i in doubtful:
            try:
                rows.append(read_datum(values[i], self._parsed, schema_id=self._schema_id))
                good.append(at[i])
            except UndecodableRecord as error:
                bad.append((at[i], error))
        if rows:
            frames.append(self._from_rows(rows, good))
        return frames, bad

    def _promote(self, frame: pl.DataFrame) -> pl.DataFrame:
        for name in self._promoted:
            frame = frame.with_columns(frame[name].cast(self._raw[name]))
        return frame

    def _from_rows(self, rows: list[dict[str, Any]], at: list[int]) -> pl.DataFrame:
        return pl.DataFrame(
            [pl.Series("index", at, pl.UInt32)]
            + [
                column([row[name] for row in rows], kind).cast(self._raw[name]).alias(name)
                for name, kind in self._types.items()
            ]
        )


def _columns_of(topic: str) -> dict[str, Any]:
    """The Avro types of a topic's columns; none for a topic that is not ours.

    `partition` and `offset` are the message's own, also where the record has such fields.
    """
    if topic == EVENTS.name:
        return dict(COLUMNS)
    records = TOPICS[topic].records if topic in TOPICS else ()
    fields = [field for name in records for field in avro_schema(RECORDS[name])["fields"]]
    return {field["name"]: field["type"] for field in fields if field["name"] not in PLACE}


def _wanted(known: dict[str, Any], columns: set[str], topic: str) -> dict[str, Any]:
    for name in sorted(columns - set(known) if known else ()):
        close = get_close_matches(name, known, n=1)
        raise SchemaError(
            f"no record of the topic {topic} has a field {name}"
            + (f"; did you mean {close[0]}?" if close else "")
        )
    return {name: kind for name, kind in known.items() if name in columns}


def _nullable(avro: Any) -> Any:
    avro = plain(avro)
    return avro if isinstance(avro, list) and "null" in avro else ["null", avro]


def _by_header(values: Sequence[bytes | None]) -> dict[bytes | None, list[int]]:
    """The places of the messages, by the first five bytes: magic and schema id."""
    heads = [None if value is None else value[:HEADER] for value in values]
    groups: dict[bytes | None, list[int]] = {head: [] for head in heads}
    if len(groups) == 1:
        return {heads[0]: list(range(len(heads)))}
    append = {head: places.append for head, places in groups.items()}
    for i, head in enumerate(heads):
        append[head](i)
    return groups


def _placed(frame: pl.DataFrame, messages: Sequence[Message]) -> pl.DataFrame:
    """The rows with where and when they were appended, in the log's order."""
    index = frame.drop_in_place("index").to_numpy()
    partition = np.array([message.partition() for message in messages], np.int32)[index]
    offset = np.array([message.offset() for message in messages], np.int64)[index]
    time = np.array([message.timestamp()[1] for message in messages], np.int64)[index]
    order = np.lexsort((offset, partition)).astype(np.uint32)
    place = {"index": index, "partition": partition, "offset": offset, "append_time": time}
    return pl.DataFrame(
        [pl.Series(name, values[order]) for name, values in place.items()]
        + frame[pl.Series(order)].get_columns()
    )


def _has_fault(frame: pl.DataFrame) -> bool:
    """Whether any row may be no event; cheap, because almost always there is none."""
    if not frame.height:
        return False
    texts = [frame[name] for name in ("event_id", "event_type", "user_key")]
    time = frame["timestamp"]
    low, high = time.min(), time.max()
    return (
        any(text.null_count() or (text == "").any() for text in texts)
        or (frame["event_type"] == TICK).any()
        or time.null_count() > 0
        or not 0 < low < high + 1 <= MAX_TIMESTAMP  # type: ignore[operator]
    )


def _outside_time() -> pl.Expr:
    return ~pl.col("timestamp").is_between(0, MAX_TIMESTAMP, closed="none").fill_null(False)


FAULTY = pl.any_horizontal(
    *(pl.col(name).fill_null("") == "" for name in ("event_id", "event_type", "user_key")),
    pl.col("event_type") == TICK,
    _outside_time(),
).fill_null(False)


def _fault(row: dict[str, Any]) -> str:
    """Why a row is no event: the first reason."""
    for name in ("event_id", "event_type"):
        if not row[name]:
            return f"{name}: missing"
    if row["event_type"] == TICK:
        return f"event_type: {TICK} is no event type"
    return _time_fault(row) if row["user_key"] else "needs a user_id or an anonymous_id"


def _time_fault(row: dict[str, Any]) -> str:
    return f"timestamp: {row['timestamp']} is not between 0 and the year 2200"


def _field(name: str, types: Mapping[str, Any]) -> dict[str, Any]:
    """One field as a record of its own, so that a problem names it."""
    return {"type": "record", "name": "r", "fields": [{"name": name, "type": types[name]}]}
