"""Two versions of a schema, field by field."""

from __future__ import annotations

from typing import Any

from streamgauge.schemas.compatibility import backward_problems
from streamgauge.schemas.derivation import avro_schema
from streamgauge.schemas.difference import differences
from streamgauge.schemas.events import EVENT_TYPES
from tests.schemas.test_compatibility import COMPATIBLE, INCOMPATIBLE, f, record


def changes(new: Any, old: Any) -> list[tuple[str, str, str | None, str | None, bool]]:
    found = differences(new, old)
    return [(c.field, c.change, c.before, c.after, c.breaks is not None) for c in found]


def test_each_change_is_told_with_what_breaks() -> None:
    note = {"name": "note", "type": ["null", "string"], "default": None}
    need = {"name": "need", "type": "string"}
    gone = {"name": "gone", "type": "boolean"}
    old = record(f("double"), gone)
    new = record(f("int"), note, need)
    assert changes(new, old) == [
        ("x", "changed", "double", "int", True),
        ("note", "added", None, "null or string = null", False),
        ("need", "added", None, "string", True),
        ("gone", "removed", "boolean", None, False),
    ]


def test_fields_within_arrays_and_records_have_a_path() -> None:
    def items(kind: str) -> dict[str, Any]:
        inner = {"type": "record", "name": "I", "fields": [{"name": "y", "type": kind}]}
        return record(f({"type": "array", "items": inner}))

    assert changes(items("string"), items("int")) == [("x[].y", "changed", "int", "string", True)]


def test_enums_fixed_and_times_say_what_changed() -> None:
    time = {"type": "long", "logicalType": "timestamp-millis"}
    assert changes(record(f(time)), record(f("long"))) == [
        ("x", "changed", "long", "timestamp-millis", False)
    ]
    enum = {"type": "enum", "name": "E", "symbols": ["a"]}
    more = enum | {"symbols": ["a", "b"]}
    assert changes(record(f(enum)), record(f(more))) == [
        ("x", "changed", "enum of a, b", "enum of a", True)
    ]


def test_nothing_that_breaks_goes_untold() -> None:
    for new, old, *_ in (*COMPATIBLE, *INCOMPATIBLE):
        told = [change for change in differences(new, old) if change.breaks]
        assert bool(told) == bool(backward_problems(new, old)), (new, old)


def test_the_same_has_no_differences() -> None:
    for cls in EVENT_TYPES.values():
        assert differences(avro_schema(cls), avro_schema(cls)) == []
