"""Event types from a module, a file or a schema that a setting names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streamgauge.schemas.codec import Codec
from streamgauge.schemas.envelope import COLUMNS
from streamgauge.schemas.errors import SchemaError
from streamgauge.schemas.events import (
    EVENT_TYPES,
    load_event_module,
    load_event_schema,
    parse_event,
)
from streamgauge.schemas.registry import Registry

SIGNUP = {
    "type": "record",
    "name": "acme.SignupDone",
    "doc": "Somebody signed up.",
    "fields": [
        {"name": "plan", "type": ["null", "string"]},
        {"name": "seats", "type": "int"},
        {"name": "tier", "type": {"type": "enum", "name": "Tier", "symbols": ["free", "paid"]}},
        {
            "name": "trial_ends",
            "type": ["null", {"type": "long", "logicalType": "timestamp-millis"}],
        },
        {"name": "labels", "type": {"type": "map", "values": "string"}},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "user_id", "type": ["null", "string"]},
    ],
}

MODULE = """
from typing import Literal
from streamgauge.schemas import Event

class Deploy(Event):
    event_type: Literal["deploy"] = "deploy"
    commit: str | None = None
"""


@pytest.fixture(autouse=True)
def own_types() -> Iterator[None]:
    """Takes out again what a test registers."""
    types, columns = dict(EVENT_TYPES), dict(COLUMNS)
    yield
    EVENT_TYPES.clear()
    EVENT_TYPES.update(types)
    COLUMNS.clear()
    COLUMNS.update(columns)


@pytest.fixture
def avsc(tmp_path: Path) -> Any:
    def write(schema: Any) -> str:
        path = tmp_path / "event.avsc"
        path.write_text(schema if isinstance(schema, str) else json.dumps(schema))
        return str(path)

    return write


def test_a_schema_file_adds_its_fields_to_the_envelope(avsc: Any, registry: Registry) -> None:
    load_event_module(avsc(SIGNUP))
    own = {"seats": "3", "tier": "paid", "labels": {"a": 1}, "tags": ["x", "y"]}
    event = parse_event(
        {"event_type": "signup_done", "user_id": "u", "timestamp": 5, "properties": own}
    )
    codec = Codec(registry)
    decoded = codec.decode(codec.encode("events", event))
    assert decoded.name == "acme.SignupDone"
    assert {name: decoded.record[name] for name in ("plan", "seats", "tier", "labels", "tags")} == {
        "plan": None,
        "seats": 3,
        "tier": "paid",
        "labels": [{"key": "a", "value": "1"}],
        "tags": ["x", "y"],
    }
    assert registry.subjects() == ["events-acme.SignupDone"]


def test_a_schema_may_name_its_event_type(avsc: Any) -> None:
    cls = load_event_schema(avsc(SIGNUP | {"event_type": "joined"}))
    assert EVENT_TYPES["joined"] is cls
    assert cls.__doc__ == "Somebody signed up."


def test_a_python_file_is_loaded_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "deploys.py"
    path.write_text(MODULE)
    load_event_module(str(path))
    load_event_module(str(path))  # again is no conflict
    assert EVENT_TYPES["deploy"].__name__ == "Deploy"


def test_a_module_is_loaded_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deploy_events.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    load_event_module("deploy_events")
    assert "deploy" in EVENT_TYPES


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module", "no module no_such_module"),
        ("no/such/file.py", "no file no/such/file.py"),
        ("no/such/file.avsc", "no file no/such/file.avsc"),
    ],
)
def test_what_is_not_there_is_said_to_be_missing(name: str, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        load_event_module(name)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ("{", "is no JSON"),
        ("[]", "is no Avro record"),
        ({"type": "enum", "name": "E", "symbols": []}, "is no Avro record"),
        (
            {"type": "record", "name": "E", "fields": [{"name": "x", "type": ["int", "string"]}]},
            "x: the type .* has no place in an event",
        ),
        (
            {"type": "record", "name": "E", "fields": [{"name": "status", "type": "string"}]},
            "other events have it as",
        ),
    ],
)
def test_a_schema_that_cannot_be_an_event_is_refused(avsc: Any, schema: Any, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        load_event_module(avsc(schema))
