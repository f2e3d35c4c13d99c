"""Event types of one's own, from a module or an .avsc file that a setting names.

Upstream: the setting `event_types` (worker, CLI) or a call. Downstream: `EVENT_TYPES`.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import create_model

from streamgauge.schemas.envelope import Event, Properties, Time
from streamgauge.schemas.errors import SchemaError

PYTHON_TYPES: dict[str, Any] = {
    "string": str,
    "boolean": bool,
    "int": int,
    "long": int,
    "float": float,
    "double": float,
    "bytes": bytes,
}


def load_event_module(name: str) -> None:
    """Make the event types of `my_events`, `path/to/my_events.py` or `path/to/my.avsc` known."""
    path = Path(name)
    if path.suffix == ".avsc":
        load_event_schema(path)
    elif path.suffix == ".py":
        spec = importlib.util.spec_from_file_location(path.stem, path)
        if spec is None or spec.loader is None or not path.is_file():
            raise SchemaError(f"there is no file {name} to load event types from")
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module  # where pydantic looks for the names in annotations
        spec.loader.exec_module(module)
    else:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            raise SchemaError(
                f"there is no module {error.name} (for event types {name}): install it,"
                " set PYTHONPATH, or give the path of a .py or .avsc file"
            ) from error


def load_event_schema(path: str | Path) -> type[Event]:
    """Add the event type of an .avsc file: its own fields, the envelope's come by themselves.

    The type's name is the schema's `event_type` property, or the record's name in snake case.
    """
    path = Path(path)
    try:
        schema = json.loads(path.read_text())
    except FileNotFoundError:
        raise SchemaError(f"there is no file {path} to load an event type from") from None
    except ValueError as error:
        raise SchemaError(f"{path} is no JSON: {error}") from None
    if not isinstance(schema, dict) or schema.get("type") != "record" or "name" not in schema:
        raise SchemaError(f"{path} is no Avro record: it needs type record, a name and fields")
    namespace, _, name = str(schema["name"]).rpartition(".")
    event_type = schema.get("event_type") or re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    fields: dict[str, Any] = {
        field["name"]: (_python_type(field["type"], f"{path}: {field['name']}") | None, None)
        for field in schema.get("fields", ())
        if field["name"] not in Event.model_fields
    }
    fields["event_type"] = (Literal[event_type], event_type)
    parent = type(
        f"_{name}",
        (Event,),
        {
            "namespace": namespace or schema.get("namespace") or Event.namespace,
            "__module__": str(path),
        },
    )
    return create_model(
        name, __base__=parent, __module__=str(path), __doc__=schema.get("doc"), **fields
    )


def _python_type(avro: Any, where: str) -> Any:
    if isinstance(avro, list) and len(avro) == 2 and "null" in avro:
        avro = next(branch for branch in avro if branch != "null")
    if isinstance(avro, dict):
        if avro.get("logicalType") == "timestamp-millis":
            return Time
        if avro["type"] == "enum":
            return Literal[tuple(avro["symbols"])]
        if avro["type"] == "map":
            return Properties
        if avro["type"] == "array":
            return tuple[_python_type(avro["items"], where), ...]  # type: ignore[misc]
        avro = avro["type"]
    if isinstance(avro, str) and avro in PYTHON_TYPES:
        return PYTHON_TYPES[avro]
    raise SchemaError(
        f"{where}: the type {avro} has no place in an event; use a primitive, an enum, a map,"
        " timestamp-millis, an array of those, each nullable or not"
    )
