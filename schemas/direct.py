"""JSON objects to an event's bytes at once, where nothing about them needs to be interpreted.

Upstream: the collector, which has objects and wants records. Downstream: Kafka. Most events are of
exactly the types that their class declares; for those, a table of the class's fields says whether a
value is right and how it is written. Everything else (a number in a string, upper case, an alias,
an unknown field, a class with validators of its own) is answered None: `parse_event` and the codec
then decide, in four times the time.

Invariant: what this encodes, `parse_event` accepts, and the codec's bytes of it are these.
"""

from __future__ import annotations

import dataclasses
import json
import typing
from collections.abc import Callable, Iterable
from struct import Struct
from typing import Annotated, Any, Literal, NamedTuple, cast

import annotated_types
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from streamgauge.schemas import envelope
from streamgauge.schemas.codec import header
from streamgauge.schemas.datum import varint
from streamgauge.schemas.derivation import REQUIRED, avro_schema, subject
from streamgauge.schemas.envelope import (
    MAX_STRING,
    MAX_TIMESTAMP,
    Event,
    Property,
    empty_is_absent,
    lower,
    pairs,
    to_millis,
)
from streamgauge.schemas.errors import InvalidEvent
from streamgauge.schemas.parsing import RENAMED, flat
from streamgauge.schemas.records import TIME
from streamgauge.schemas.registry import Registry

NULL, GIVEN = b"\x00", b"\x02"
MAX_FLOAT = 1.7976931348623157e308
SIX_BYTES = (1 << 34, 1 << 41)
"""Times of which Avro makes six bytes."""

TIME_RULES = [annotated_types.Gt(0), annotated_types.Lt(MAX_TIMESTAMP), TIME]

EXACT = 1 << 53
"""Below this every int is a float."""

NESTED = frozenset({"properties", "consent", *RENAMED})

Write = Callable[[Any], bytes | None]
"""A value as Avro's bytes; None when it must be looked at more closely."""


class Encoded(NamedTuple):
    """An event as a record."""

    event_id: str
    key: bytes
    value: bytes


Encode = Callable[[dict[str, Any]], Encoded | None]


def direct_encoder(registry: Registry, topic: str, cls: type[Event]) -> Encode | None:
    """The encoder of an event class for a topic; None for a class that decides for itself."""
    if not _plain(cls):
        return None
    schema = avro_schema(cls)
    names = [field["name"] for field in schema["fields"]]
    writes = {
        name: (at, write)
        for at, name in enumerate(names, 1)
        if (write := _writer(cls.model_fields[name], b"" if name in REQUIRED else GIVEN))
    }
    if not writes.keys() >= REQUIRED:
        return None
    template: list[bytes | None] = [header(registry.register(subject(topic, cls), schema))]
    template += [None if name in REQUIRED else NULL for name in names]
    needed = {name for name, field in cls.model_fields.items() if field.is_required()} | REQUIRED
    custom = cls is envelope.EVENT_TYPES.get("custom")

    def encode(event: dict[str, Any]) -> Encoded | None:
        if not NESTED.isdisjoint(event):
            try:
                event = flat(event, custom=custom)
            except InvalidEvent:
                return None
        if not needed <= event.keys():
            return None
        parts = template.copy()
        for name, value in event.items():
            if value is None:
                if name in needed or name not in writes:
                    return None
                continue
            slot = writes.get(name)
            if slot is None:
                return None
            try:
                data = slot[1](value)
            except TypeError:  # a list or an object where a word is expected
                return None
            if data is None:
                return None
            parts[slot[0]] = data
        user = event.get("user_id") or event.get("anonymous_id")
        if not user:
            return None
        return Encoded(event["event_id"], user.encode(), b"".join(parts))  # type: ignore[arg-type]

    return encode


def _plain(cls: type[Event]) -> bool:
    """Whether a class checks nothing but its fields' types, and fills in nothing."""
    known = cls.__pydantic_decorators__
    kinds = [getattr(known, kind.name) for kind in dataclasses.fields(known)]
    own = [name for kind in kinds if isinstance(kind, dict) for name in kind]
    return (
        own == ["_has_user"]
        and cls._has_user is Event._has_user
        and cls.model_config == Event.model_config
        and cls.__init__ is BaseModel.__init__
        and cls.model_post_init is BaseModel.model_post_init
        and cls.user_key is Event.user_key
        and all(
            field.is_required() or name in REQUIRED or (field.default is None)
            for name, field in cls.model_fields.items()
        )
    )


def _writer(field: FieldInfo, prefix: bytes) -> Write | None:
    """How to write the plain values of a field; None for a field that is looked at closely."""
    if field.alias is not None or field.validation_alias is not None:
        return None
    kind, rules = _bare(field.annotation, list(field.metadata))
    before = [rule.func for rule in rules if isinstance(rule, BeforeValidator)]
    rest = [rule for rule in rules if not isinstance(rule, BeforeValidator)]
    if typing.get_origin(kind) is Literal:
        words = typing.get_args(kind)
        known = before in ([], [lower]) and not rest and all(type(one) is str for one in words)
        return _words(prefix, words) if known else None
    if kind is str:
        some = rest == [annotated_types.MinLen(1)] or before == [empty_is_absent]
        known = before in ([], [empty_is_absent]) and rest in ([], [annotated_types.MinLen(1)])
        return _texts(prefix, empty=not some) if known else None
    if kind is int and before == [to_millis]:
        return _times(prefix) if rest == TIME_RULES else None
    if kind == tuple[Property, ...] and before == [pairs] and not rest:
        return _properties(prefix)
    bounds = _bounds(kind, rest)
    if before or bounds is None or kind not in PRIMITIVE:
        return None
    return PRIMITIVE[kind](prefix, *bounds)


def _bare(annotation: Any, rules: list[Any]) -> tuple[Any, list[Any]]:
    """A type without `| None` and Annotated, and the rules that were around it."""
    arguments = [part for part in typing.get_args(annotation) if part is not type(None)]
    if typing.get_origin(annotation) is Annotated:
        found: list[Any] = []
        for rule in arguments[1:]:
            found += rule.metadata if isinstance(rule, FieldInfo) else [rule]
        return _bare(arguments[0], found + rules)
    if len(arguments) == 1 and type(None) in typing.get_args(annotation):
        return _bare(arguments[0], rules)
    return annotation, rules


def _bounds(of: Any, rules: list[Any]) -> tuple[float, float] | None:
    """The least and the greatest value, both included; None for rules of another kind."""
    least, most = -MAX_FLOAT, MAX_FLOAT
    for rule in rules:
        if isinstance(rule, annotated_types.Ge):
            least = max(least, cast(float, rule.ge))
        elif isinstance(rule, annotated_types.Le):
            most = min(most, cast(float, rule.le))
        elif isinstance(rule, annotated_types.Lt) and isinstance(rule.lt, int) and of is int:
            most = min(most, rule.lt - 1)
        else:
            return None
    return least, most


def _texts(prefix: bytes, *, empty: bool) -> Write:
    sizes = tuple(prefix + varint(size) for size in range(1024))

    def write(value: Any) -> bytes | None:
        if type(value) is not str or len(value) > MAX_STRING or not (value or empty):
            return None
        try:
            data = value.encode()
        except UnicodeEncodeError:
            return None
        size = len(data)
        return (sizes[size] if size < 1024 else prefix + varint(size)) + data

    return write


def _words(prefix: bytes, words: Iterable[str]) -> Write:
    return {word: prefix + varint(len(word.encode())) + word.encode() for word in words}.get


def _times(prefix: bytes) -> Write:
    def write(value: Any) -> bytes | None:
        if type(value) is not int:
            if type(value) is not str:
                return None
            try:
                value = to_millis(value)
            except ValueError:
                return None
        if not 0 < value < MAX_TIMESTAMP:
            return None
        if not SIX_BYTES[0] <= value < SIX_BYTES[1]:
            return prefix + varint(value)
        # From 1970-07 to 2039 the loop of `varint` has six rounds: this is a third of its time.
        z = value << 1
        return prefix + bytes(
            (
                z & 127 | 128,
                z >> 7 & 127 | 128,
                z >> 14 & 127 | 128,
                z >> 21 & 127 | 128,
                z >> 28 & 127 | 128,
                z >> 35,
            )
        )

    return write


def _longs(prefix: bytes, least: float, most: float) -> Write:
    low, high = max(int(least), -(2**63)), min(int(most), 2**63 - 1)

    def write(value: Any) -> bytes | None:
        return prefix + varint(value) if type(value) is int and low <= value <= high else None

    return write


def _doubles(prefix: bytes, least: float, most: float) -> Write:
    pack = Struct("<d").pack

    def write(value: Any) -> bytes | None:
        kind = type(value)
        if kind is not float and not (kind is int and -EXACT < value < EXACT):
            return None
        return prefix + pack(value) if least <= value <= most else None

    return write


def _booleans(prefix: bytes, least: float, most: float) -> Write:
    yes, no = prefix + b"\x01", prefix + b"\x00"

    def write(value: Any) -> bytes | None:
        return yes if value is True else no if value is False else None

    return write


def _properties(prefix: bytes) -> Write:
    text, given = _texts(b"", empty=True), _texts(GIVEN, empty=True)

    def write(value: Any) -> bytes | None:
        if type(value) is dict:
            items = list(value.items())
        elif type(value) is list:
            items = []
            for pair in value:
                if type(pair) is not dict or pair.keys() != {"key", "value"}:
                    return None
                items.append((pair["key"], pair["value"]))
        else:
            return None
        out = [prefix, varint(len(items))] if items else [prefix]
        for name, item in items:
            key = text(name)
            data: bytes | None = NULL
            if item is not None:
                if type(item) is not str:
                    item = json.dumps(item, separators=(",", ":"), default=str)
                data = given(item)
            if key is None or data is None:
                return None
            out += (key, data)
        return b"".join([*out, NULL])

    return write


PRIMITIVE: dict[Any, Callable[[bytes, float, float], Write]] = {
    int: _longs,
    float: _doubles,
    bool: _booleans,
}
