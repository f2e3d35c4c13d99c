"""How a class becomes an Avro schema.

Upstream: event classes (pydantic) and record dataclasses. Downstream: `avro.py`, the codecs.

Invariants: derivation is deterministic, so equal classes give equal schemas and one registry
id; schemas are flat (no maps, no unions beyond null, no enums: readers of columns know none of
them); in an event only event_id, event_type and timestamp are required, in other records nothing.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel

from streamgauge.schemas.errors import SchemaError
from streamgauge.schemas.records import TIME

NAMESPACE = "streamgauge"
REQUIRED = frozenset({"event_id", "event_type", "timestamp"})

PRIMITIVES: dict[Any, str] = {
    str: "string",
    bool: "boolean",
    int: "long",
    float: "double",
    bytes: "bytes",
}

Schema = dict[str, Any]


@cache
def avro_schema(cls: type) -> Schema:
    """The Avro schema of an event class or a record dataclass. Do not change the answer."""
    fields = []
    is_event = issubclass(cls, BaseModel)
    for name, annotation in _fields(cls):
        avro = _type(annotation, cls, name, nullable_items=not is_event)
        if is_event and name in REQUIRED:
            fields.append({"name": name, "type": avro})
        else:
            fields.append({"name": name, "type": ["null", avro], "default": None})
    namespace = getattr(cls, "namespace", NAMESPACE)
    return {"type": "record", "name": cls.__name__, "namespace": namespace, "fields": fields}


def full_name(cls: type) -> str:
    """`streamgauge.PageView`."""
    schema = avro_schema(cls)
    return f"{schema['namespace']}.{schema['name']}"


def subject(topic: str, cls: type) -> str:
    """The registry's name for a record of a topic (TopicRecordName): `events-streamgauge.Tick`."""
    return f"{topic}-{full_name(cls)}"


def _fields(cls: type) -> Iterator[tuple[str, Any]]:
    if issubclass(cls, BaseModel):
        for name, field in cls.model_fields.items():
            yield (
                name,
                (
                    Annotated[(field.annotation, *field.metadata)]  # type: ignore[misc]
                    if field.metadata
                    else field.annotation
                ),
            )
    elif dataclasses.is_dataclass(cls):
        yield from typing.get_type_hints(cls, include_extras=True).items()
    else:
        raise SchemaError(f"{cls.__name__} is neither an event nor a dataclass")


def _type(annotation: Any, cls: type, field: str, *, nullable_items: bool) -> Any:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Annotated:
        if TIME in arguments[1:]:
            return {"type": "long", "logicalType": TIME}
        return _type(arguments[0], cls, field, nullable_items=nullable_items)
    if origin in (typing.Union, types.UnionType):
        others = [argument for argument in arguments if argument is not type(None)]
        if len(others) == 1:
            return _type(others[0], cls, field, nullable_items=nullable_items)
    if origin is Literal and all(isinstance(argument, str) for argument in arguments):
        return "string"
    if origin in (list, tuple):
        items = _type(arguments[0], cls, field, nullable_items=nullable_items)
        return {"type": "array", "items": ["null", items] if nullable_items else items}
    if annotation in PRIMITIVES:
        return PRIMITIVES[annotation]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        # Named after the field: a name may be defined only once in a schema.
        fields = [
            {"name": name, "type": ["null", _type(kind, cls, field, nullable_items=False)]}
            | {"default": None}
            if type(None) in typing.get_args(kind)
            else {"name": name, "type": _type(kind, cls, field, nullable_items=False)}
            for name, kind in _fields(annotation)
        ]
        return {"type": "record", "name": f"{field}_item", "fields": fields}
    raise SchemaError(
        f"{cls.__name__}.{field}: {annotation!r} has no place in a flat schema; use str, bool,"
        " int, float, bytes, Time (milliseconds), Properties (for a dict), a list of"
        " those, or a Literal of strings"
    )
