"""Batches of Kafka messages to frames.

Upstream: consumers (worker, sinks, `verify`) with messages of one topic. Downstream: computations
on frames. All of a schema's records are read at once (`container.py`); what polars cannot read
goes record by record through fastavro.

Invariants: every message is a row of the frame, a reject or a tombstone, and which of them (and
the row's values) depends on the message and its schema alone; rows are sorted by partition and
offset; the frame has the same columns and types whatever the batch holds, unless it is open-ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import numpy as np
import polars as pl

from streamgauge.schemas.avro import RECORDS, avro_schema
from streamgauge.schemas.codec import HEADER, header_id, plain
from streamgauge.schemas.dtypes import cast, dtype, strings_as_bytes
from streamgauge.schemas.envelope import COLUMNS
from streamgauge.schemas.errors import SchemaError, UndecodableRecord, UnknownSchema
from streamgauge.schemas.messages import Message, Messages
from streamgauge.schemas.registry import Registry
from streamgauge.schemas.reject import Reject
from streamgauge.schemas.resolution import Resolution, agreeing, check
from streamgauge.schemas.topics import EVENTS, TOPICS
from streamgauge.schemas.validity import FAULTY, TICK, fault, has_fault, outside_time, time_fault

TICK_RECORD = "streamgauge.Tick"
PLACE = ("index", "partition", "offset", "append_time")
"""The columns that every frame has: where and when the message was appended."""

FIRST = ("event_id", "event_type", "timestamp", "user_key", "consent_analytics")
"""The columns that every frame of events has."""

CORE = ("event_id", "event_type", "timestamp", "user_id", "anonymous_id", "consent_analytics")
"""What is always read of an event."""


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
        self,
        registry: Registry,
        topic: str,
        columns: Iterable[str] | None = None,
        *,
        open_ended: bool = False,
    ) -> None:
        """`topic` is the name without the namespace. `open_ended`: also the columns that newer
        writers bring, from the batch on in which the first record of theirs is."""
        self._registry = registry
        self._topic = topic
        self._events = topic == EVENTS.name
        self._compacted = topic in TOPICS and TOPICS[topic].compacted
        self._plans: dict[bytes, Resolution] = {}
        self._uniform: bytes | None = None  # the header of all that was read last
        self._empty: pl.DataFrame | None = None
        known = _columns_of(topic)
        asked = None if columns is None else frozenset(columns) - {*PLACE, "user_key"}
        wanted = known if asked is None else _wanted(known, asked, topic)
        # A topic of somebody else has the columns that its schemas bring.
        self._open = open_ended or not known
        self._known = {name: _nullable(kind) for name, kind in known.items()}
        self._asked = asked
        if self._events:
            self._event_columns = list(dict.fromkeys(("index", *FIRST, *wanted)))
            wanted = {name: known[name] for name in CORE} | wanted
        self._columns = {name: _nullable(kind) for name, kind in wanted.items()}

    def decode(self, messages: Sequence[Message]) -> DecodedBatch:
        """The messages as rows, rejects and tombstones; fastest for `Messages`."""
        messages = Messages.of(messages)
        values = messages.values
        rejects: list[Reject] = []
        tombstones: list[int] = []
        records, ticks = _Parts(), _Parts()
        uniform = self._read_uniform(values)
        if uniform is not None:
            records.add([uniform], [np.arange(len(values), dtype=np.uint32)])
        for head, at in _by_header(values).items() if uniform is None else ():
            if head is None and self._compacted:
                tombstones = at.tolist()
                continue
            try:
                plan = self._plan(head)
            except UndecodableRecord as error:
                rejects += [self._reject(messages[i], error) for i in at]
                continue
            alone = len(at) == len(values)
            some = values if alone else list(map(values.__getitem__, at.tolist()))
            frames, places, bad = plan.read(some, at)  # type: ignore[arg-type]
            is_tick = plan.name == TICK_RECORD
            self._uniform = head if alone and not is_tick else None
            (ticks if is_tick else records).add(frames, places)
            rejects += [self._reject(messages[i], error) for i, error in bad]
        frame = self._joined(records)
        if self._events:
            frame = self._valid(frame, messages, rejects)
            if ticks.frames:
                frame.extend(self._valid_ticks(ticks, messages, rejects))
        if rejects:
            rejects.sort(key=lambda reject: (reject.partition, reject.offset))
        return DecodedBatch(frame=_placed(frame, messages), rejects=rejects, tombstones=tombstones)

    def _read_uniform(self, values: Sequence[bytes | None]) -> pl.DataFrame | None:
        """The rows, where all values are of the schema that the last batch had alone."""
        if self._uniform is None or not values:
            return None
        some = values[:: len(values) // 512 + 1]  # what a wrong guess costs, a few looks often save
        if any(value is None or value[:HEADER] != self._uniform for value in some):
            return None
        return self._plans[self._uniform].read_all(values, self._uniform)  # type: ignore[arg-type]

    def _plan(self, head: bytes | None) -> Resolution:
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
            if not isinstance(schema, dict) or schema.get("type") != "record":
                raise UndecodableRecord("undecodable", "the schema is no record", schema_id)
            if self._open:
                self._add_columns(schema)
            schema = plain(schema)
            # All that we know, not what is asked for: readers of other columns must agree.
            check(schema_id, schema, self._known or self._columns)
            columns = self._columns
            if self._known and self._open:  # what no class of ours has is worth no refusal
                columns = agreeing(schema, columns)
            plan = self._plans[head] = Resolution(schema_id, schema, columns)
        return plan

    def _add_columns(self, schema: Any) -> None:
        added = {
            item["name"]: _nullable(item["type"])
            for item in schema["fields"]
            if item["name"] not in self._columns
            and item["name"] not in PLACE
            and (self._asked is None or item["name"] in self._asked)
        }
        if added:
            self._empty = None
            self._columns |= added
            if self._events:
                self._event_columns += added

    def _joined(self, parts: _Parts) -> pl.DataFrame:
        """All parts in one frame, with the columns that were asked for in their final types."""
        if self._empty is None:
            self._empty = pl.DataFrame(
                schema={name: dtype(strings_as_bytes(kind)) for name, kind in self._columns.items()}
            )
            types = {name: dtype(kind) for name, kind in self._columns.items()}
            self._types = types
            # One query for all columns: half of what a cast of each costs in a small batch.
            raw = self._empty.schema
            final = {
                name: pl.col(name) if raw[name] == kind else pl.col(name).cast(kind)
                for name, kind in types.items()
            }
            if self._events:
                final["user_key"] = _user_key(final)
                final = {name: final[name] for name in self._event_columns[1:]}
            self._final = list(final.values())
        frame = pl.concat([self._empty, *parts.frames], how="diagonal", rechunk=True)
        try:
            frame = frame.select_seq(self._final)
        except pl.exceptions.PolarsError:  # a text that is none
            frame = pl.DataFrame([cast(frame[name], kind) for name, kind in self._types.items()])
            if self._events:
                frame = frame.with_columns(_user_key({name: pl.col(name) for name in CORE}))
                frame = frame[self._event_columns[1:]]
        index = np.concatenate([np.zeros(0, np.uint32), *parts.places])
        return frame.insert_column(0, pl.Series("index", index))

    def _valid(
        self, frame: pl.DataFrame, messages: Messages, rejects: list[Reject]
    ) -> pl.DataFrame:
        """The rows that are events; the others go to `rejects`."""
        if has_fault(frame):
            valid = ~frame.select(FAULTY).to_series()
            for row in frame.filter(~valid).iter_rows(named=True):
                error = UndecodableRecord("invalid", fault(row))
                rejects.append(self._reject(messages[row["index"]], error))
            frame = frame.filter(valid)
        return frame

    def _valid_ticks(
        self, parts: _Parts, messages: Messages, rejects: list[Reject]
    ) -> pl.DataFrame:
        frame = self._joined(parts).with_columns(
            event_type=pl.lit(TICK), user_key=pl.lit(None, pl.String)
        )
        outside = frame.select(outside_time()).to_series()
        for row in frame.filter(outside).iter_rows(named=True):
            error = UndecodableRecord("invalid", time_fault(row))
            rejects.append(self._reject(messages[row["index"]], error))
        return frame.filter(~outside)

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


@dataclass(frozen=True)
class _Parts:
    """Rows of some schemas, and their places in the batch."""

    frames: list[pl.DataFrame] = field(default_factory=list)
    places: list[np.ndarray] = field(default_factory=list)

    def add(self, frames: list[pl.DataFrame], places: list[np.ndarray]) -> None:
        self.frames.extend(frames)
        self.places.extend(places)


def _user_key(columns: Mapping[str, pl.Expr]) -> pl.Expr:
    """Whose event it is."""
    return pl.coalesce(columns["user_id"], columns["anonymous_id"]).alias("user_key")


def _columns_of(topic: str) -> dict[str, Any]:
    """The Avro types of a topic's columns; none for a topic that is not ours.

    `partition` and `offset` are the message's own, also where the record has such fields.
    """
    if topic == EVENTS.name:
        return {**COLUMNS, "control": ["null", "string"]}  # of ticks
    records = TOPICS[topic].records if topic in TOPICS else ()
    fields = [field for name in records for field in avro_schema(RECORDS[name])["fields"]]
    return {field["name"]: field["type"] for field in fields if field["name"] not in PLACE}


def _wanted(known: dict[str, Any], columns: frozenset[str], topic: str) -> dict[str, Any]:
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


def _by_header(values: Sequence[bytes | None]) -> dict[bytes | None, np.ndarray]:
    """The places of the messages, by the first five bytes: magic and schema id."""
    heads = [None if value is None else value[:HEADER] for value in values]
    number = {head: n for n, head in enumerate(dict.fromkeys(heads))}
    if len(number) < 2:
        return {head: np.arange(len(heads), dtype=np.uint32) for head in number}
    kind = np.int16 if len(number) < 2**15 else np.int32  # of 16 bits: sorted by radix
    numbers = np.fromiter(map(number.__getitem__, heads), kind, len(heads))
    order = np.argsort(numbers, kind="stable").astype(np.uint32)
    ends = np.bincount(numbers).cumsum()
    return dict(zip(number, np.split(order, ends[:-1]), strict=True))


def _placed(frame: pl.DataFrame, messages: Messages) -> pl.DataFrame:
    """The rows with where and when they were appended, in the log's order."""
    index = frame.drop_in_place("index").to_numpy()
    order = messages.order()
    if len(index) < len(messages) or (index[1:] < index[:-1]).any():
        row = np.full(len(messages), -1, np.int64)
        row[index] = np.arange(len(index))  # of each message
        rows = row[order]
        rows = rows[rows >= 0]
        index = index[rows]
    else:
        rows, index = order, order.astype(np.uint32)
    if not (rows[1:] > rows[:-1]).all():
        frame = frame[pl.Series(rows.astype(np.uint32))]
    place = {"index": index, "partition": messages.partitions[index]}
    place |= {"offset": messages.offsets[index], "append_time": messages.times[index]}
    for at, (name, values) in enumerate(place.items()):
        frame.insert_column(at, pl.Series(name, values))
    return frame
