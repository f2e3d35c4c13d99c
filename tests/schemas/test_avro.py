"""The committed schemas are those of the classes; derivation refuses what has no flat schema."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import fastavro
import pytest

from streamgauge.schemas import avro
from streamgauge.schemas.avro import (
    RECORDS,
    avro_schema,
    committed,
    drift,
    full_name,
    main,
    subject,
)
from streamgauge.schemas.errors import SchemaError
from streamgauge.schemas.events import EVENT_TYPES, PageView, Search
from streamgauge.schemas.records import TIME, MetricUpdate, Tick

ALL = [*EVENT_TYPES.values(), *RECORDS.values()]


def field(cls: type, name: str) -> dict[str, Any]:
    return next(f for f in avro_schema(cls)["fields"] if f["name"] == name)


def test_committed_schemas_are_those_of_the_classes() -> None:
    assert drift() == [], "run: python -m streamgauge.schemas.avro --write"


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_every_schema_is_valid_and_what_is_not_required_is_nullable(cls: type) -> None:
    schema = avro_schema(cls)
    fastavro.parse_schema(schema)
    required = {f["name"] for f in schema["fields"] if not isinstance(f["type"], list)}
    assert required == (
        {"event_id", "event_type", "timestamp"} if cls in EVENT_TYPES.values() else set()
    )
    nullable = [f for f in schema["fields"] if f["name"] not in required]
    assert all(f["type"][0] == "null" and f["default"] is None for f in nullable)


def test_types_follow_the_annotations() -> None:
    time = {"type": "long", "logicalType": "timestamp-millis"}
    assert field(PageView, "timestamp") == {"name": "timestamp", "type": time}
    assert field(PageView, "received_at")["type"] == ["null", time]
    assert field(PageView, "device_type")["type"] == ["null", "string"]
    assert field(PageView, "status")["type"] == ["null", "long"]
    assert field(Tick, "timestamp")["type"] == ["null", time]
    assert field(MetricUpdate, "values")["type"] == [
        "null",
        {"type": "array", "items": ["null", "double"]},
    ]
    assert field(Search, "filters")["type"][1]["items"]["fields"] == [
        {"name": "key", "type": "string"},
        {"name": "value", "type": ["null", "string"], "default": None},
    ]


def test_subjects_are_topic_and_record_name() -> None:
    assert full_name(Tick) == "streamgauge.Tick"
    assert subject("events", PageView) == "events-streamgauge.PageView"


@dataclass
class Nested:
    inner: Annotated[int, TIME] | str


@dataclass
class Mapped:
    inner: dict[str, str]


@pytest.mark.parametrize(
    ("cls", "message"),
    [(Nested, "no place in a flat schema"), (Mapped, "Properties"), (Path, "neither an event")],
)
def test_what_has_no_flat_schema_is_refused(cls: type, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        avro_schema(cls)


def test_the_command_reports_drift_and_rewrites(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(avro, "AVSC", tmp_path / "avsc")
    assert main(["--write"]) == 0
    assert main([]) == 0
    (tmp_path / "avsc/Tick.avsc").write_text("{}")
    (tmp_path / "avsc/Gone.avsc").write_text("{}")
    capsys.readouterr()
    assert main([]) == 1
    assert capsys.readouterr().out.count("differs from its class") == 2
    assert main(["--write"]) == 0
    assert drift() == []
    assert {p.name: p.read_text() for p in (tmp_path / "avsc").iterdir()} == committed()
    assert json.loads((tmp_path / "avsc/Tick.avsc").read_text())["name"] == "Tick"
