"""A collector whose types would break readers does not start, and names the field."""

from pathlib import Path

import pytest

from streamgauge.schemas.derivation import avro_schema
from streamgauge.schemas.errors import IncompatibleSchema
from streamgauge.schemas.events import PageView
from streamgauge.schemas.registry import open_registry
from streamgauge.serving.collector.intake import Intake
from streamgauge.serving.collector.settings import Limits


def test_a_field_of_another_type_than_registered_is_refused(tmp_path: Path) -> None:
    schema = avro_schema(PageView)
    older = [
        {**field, "type": ["null", "bytes"]} if field["name"] == "status" else field
        for field in schema["fields"]
    ]
    registry = open_registry(f"file:{tmp_path}")
    registry.register("events-streamgauge.PageView", {**schema, "fields": older})
    with pytest.raises(IncompatibleSchema, match=r"status: bytes was written") as refused:
        Intake(registry, Limits()).register()
    assert refused.value.subject == "events-streamgauge.PageView"
