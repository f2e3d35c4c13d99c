"""BACKWARD compatibility by Avro's resolution rules; fastavro reads what we call compatible."""

from __future__ import annotations

import io
from typing import Any

import fastavro
import pytest
from fastavro.read import SchemaResolutionError
from hypothesis import given
from hypothesis import strategies as st

from streamgauge.schemas.compatibility import backward_problems


def record(*fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "record", "name": "R", "namespace": "n", "fields": list(fields)} | more


def f(kind: Any, **more: Any) -> dict[str, Any]:
    return {"name": "x", "type": kind, **more}


def enum(*symbols: str, **more: Any) -> dict[str, Any]:
    return {"type": "enum", "name": "E", "symbols": list(symbols)} | more


def fixed(size: int) -> dict[str, Any]:
    return {"type": "fixed", "name": "F", "size": size}


INNER = {"type": "record", "name": "I", "fields": [{"name": "y", "type": "int"}]}
TREE = record(f("int"), {"name": "next", "type": ["null", "n.R"]})

COMPATIBLE: list[tuple[Any, Any, Any]] = [
    (record(f("string")), record(f("string")), {"x": "a"}),
    (record(f("long")), record(f("int")), {"x": 1}),
    (record(f("double")), record(f("long")), {"x": 1}),
    (record(f("bytes")), record(f("string")), {"x": "a"}),
    (record(f(["null", "string"])), record(f("string")), {"x": "a"}),
    (record(f(["null", "double"])), record(f(["null", "long"])), {"x": 1}),
    (record(f("int"), {"name": "new", "type": "int", "default": 5}), record(f("int")), {"x": 1}),
    (record(), record(f("int")), {"x": 1}),
    (record({"name": "z", "type": "int", "aliases": ["x"]}), record(f("int")), {"x": 1}),
    (
        record(f({"type": "array", "items": "long"})),
        record(f({"type": "array", "items": "int"})),
        {"x": [1]},
    ),
    (
        record(f({"type": "map", "values": "long"})),
        record(f({"type": "map", "values": "int"})),
        {"x": {"a": 1}},
    ),
    (record(f(enum("a", "b"))), record(f(enum("a"))), {"x": "a"}),
    (record(f(enum("b", default="b"))), record(f(enum("a", "b"))), {"x": "b"}),
    (record(f(fixed(2))), record(f(fixed(2))), {"x": b"ab"}),
    (record(f(INNER)), record(f(INNER)), {"x": {"y": 1}}),
    (record(f({"type": "long", "logicalType": "timestamp-millis"})), record(f("long")), {"x": 1}),
    (TREE, TREE, {"x": 1, "next": {"x": 2, "next": None}}),
]

INCOMPATIBLE: list[tuple[Any, Any, str]] = [
    (record(f("int")), record(f("long")), "x: long was written, int cannot read it"),
    (record(f("string")), record(f("long")), "x: long was written, string cannot read it"),
    (record(f("string")), record(f(["null", "string"])), "x: null was written, string cannot"),
    (record(f(["null", "int"])), record(f("string")), "none of [null, int] reads it"),
    (record(f("int")), record(), "x: new, and without a default"),
    (record(f(enum("a"))), record(f(enum("a", "b", "c"))), "x: the symbols b, c are gone"),
    (record(f(fixed(3))), record(f(fixed(2))), "x: fixed of 2 bytes became 3"),
    (
        record(f({"type": "array", "items": "int"})),
        record(f({"type": "array", "items": "string"})),
        "x[]: string",
    ),
    (
        record(f({"type": "map", "values": "int"})),
        record(f({"type": "map", "values": "string"})),
        "x{}: string",
    ),
    (record(f(INNER)), record(f(INNER | {"fields": []})), "x.y: new, and without a default"),
    (record(name="S"), record(), "the record: the record R is now S"),
    ("int", "string", "the record: string was written, int cannot read it"),
]


@pytest.mark.parametrize(("new", "old", "value"), COMPATIBLE)
def test_what_can_be_read_has_no_problems(new: Any, old: Any, value: Any) -> None:
    assert backward_problems(new, old) == []
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(old), value)
    stream.seek(0)
    fastavro.schemaless_reader(stream, fastavro.parse_schema(old), fastavro.parse_schema(new))


@pytest.mark.parametrize(("new", "old", "problem"), INCOMPATIBLE)
def test_each_problem_is_named(new: Any, old: Any, problem: str) -> None:
    (found,) = backward_problems(new, old)
    assert problem in found


def test_a_renamed_record_keeps_its_old_name_as_an_alias() -> None:
    assert backward_problems(record(name="S", aliases=["n.R"]), record()) == []


def test_all_problems_are_named() -> None:
    new = record(f("int"), {"name": "y", "type": "int"})
    assert len(backward_problems(new, record(f("string")))) == 2


KINDS = ("int", "long", "double", "string", "boolean", ["null", "long"], ["null", "string"])
VALUES = {"int": 1, "long": 2**40, "double": 0.5, "string": "a", "boolean": True}
FIELDS = st.dictionaries(st.sampled_from("abc"), st.sampled_from(KINDS))
DEFAULTED = st.sets(st.sampled_from("abc"))


def default(kind: Any) -> Any:
    return None if isinstance(kind, list) else VALUES[kind]


@given(FIELDS, FIELDS, DEFAULTED, st.booleans())
def test_what_is_called_compatible_is_read_and_what_misses_a_default_is_not(
    old: dict[str, Any], new: dict[str, Any], defaulted: set[str], nulls: bool
) -> None:
    def value(kind: Any) -> Any:
        return (None if nulls else VALUES[kind[1]]) if isinstance(kind, list) else VALUES[kind]

    def read() -> None:
        stream = io.BytesIO()
        data = {name: value(kind) for name, kind in old.items()}
        fastavro.schemaless_writer(stream, writer, data)
        stream.seek(0)
        fastavro.schemaless_reader(stream, writer, fastavro.parse_schema(reader))

    fields = [{"name": name, "type": kind} for name, kind in old.items()]
    writer = fastavro.parse_schema(record(*fields))
    reader = record(
        *(
            {"name": name, "type": kind} | ({"default": default(kind)} if name in defaulted else {})
            for name, kind in new.items()
        )
    )
    missing = [name for name in new if name not in old and name not in defaulted]
    problems = backward_problems(reader, record(*fields))
    assert {problem.split(":")[0] for problem in problems} >= set(missing)
    if not problems:
        read()
    elif missing:
        with pytest.raises(SchemaResolutionError):
            read()
