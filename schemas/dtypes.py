"""Avro types as polars types, and which schemas polars can read at all.

Upstream: writers' schemas and our own columns. Downstream: `container.py`, `columnar.py`,
`encoder.py`.
"""

from __future__ import annotations

import json
from typing import Any

import polars as pl

PRIMITIVES: dict[str, Any] = {
    "boolean": pl.Boolean,
    "int": pl.Int32,
    "long": pl.Int64,
    "float": pl.Float32,
    "double": pl.Float64,
    "string": pl.String,
    "bytes": pl.Binary,
    "enum": pl.String,
    "fixed": pl.Binary,
}


def dtype(avro: Any) -> pl.DataType:
    """The polars type for values of an Avro type; text (JSON) for what has no columns: maps,
    unions of several types, records within themselves."""
    inner = not_null(avro)
    kind = inner["type"] if isinstance(inner, dict) else inner
    if kind == "array":
        return pl.List(dtype(inner["items"]))
    if kind == "record":
        return pl.Struct({field["name"]: dtype(field["type"]) for field in inner["fields"]})
    if isinstance(kind, str) and kind in PRIMITIVES:
        return PRIMITIVES[kind]()
    return pl.String()


def not_null(avro: Any) -> Any:
    """The type beside null in a union of the two; other types as they are."""
    if isinstance(avro, list):
        rest = [branch for branch in avro if branch != "null"]
        if len(rest) == 1:
            return rest[0]
    return avro


def readable(avro: Any) -> bool:
    """Whether polars reads the type (it panics at maps, wider unions and nullable enums).

    Enums are left out altogether: they would be of another type in every batch.
    """
    if isinstance(avro, list):
        return len(avro) == 2 and "null" in avro and readable(not_null(avro))
    if isinstance(avro, dict):
        if avro["type"] == "array":
            return readable(avro["items"])
        if avro["type"] == "record":
            return bool(avro["fields"]) and all(readable(f["type"]) for f in avro["fields"])
        return avro["type"] in PRIMITIVES and avro["type"] != "enum"
    return avro in PRIMITIVES  # no names of types defined elsewhere, no null alone


def has_array(avro: Any) -> bool:
    if isinstance(avro, list):
        return any(has_array(branch) for branch in avro)
    if isinstance(avro, dict):
        fields = avro.get("fields", ())
        return avro["type"] == "array" or any(has_array(field["type"]) for field in fields)
    return False


def strings_as_bytes(avro: Any) -> Any:
    """The type with the same bytes, read without asking whether strings are UTF-8."""
    if isinstance(avro, list):
        return [strings_as_bytes(branch) for branch in avro]
    if isinstance(avro, dict):
        if avro["type"] == "array":
            return {"type": "array", "items": strings_as_bytes(avro["items"])}
        if avro["type"] == "record":
            fields = [
                {"name": field["name"], "type": strings_as_bytes(field["type"])}
                for field in avro["fields"]
            ]
            return {"type": "record", "name": avro["name"], "fields": fields}
        return "bytes" if avro["type"] == "string" else avro
    return "bytes" if avro == "string" else avro


def column(values: list[Any], kind: pl.DataType) -> pl.Series:
    """Decoded values as a column, with JSON where the values have no columns."""
    return pl.Series([_fit(value, kind) for value in values], dtype=kind, strict=False)


def cast(series: pl.Series, kind: pl.DataType) -> pl.Series:
    """A column read by `strings_as_bytes`, in the type wanted.

    Bytes that are no UTF-8 become U+FFFD: whether a record is accepted must not depend on which
    columns somebody reads.
    """
    if series.dtype == kind:
        return series
    try:
        return series.cast(kind)
    except pl.exceptions.PolarsError:
        return column(series.to_list(), kind).alias(series.name)


def _fit(value: Any, kind: pl.DataType) -> Any:
    if value is None:
        return None
    if isinstance(kind, pl.String):
        if isinstance(value, bytes):
            return value.decode(errors="replace")
        return value if isinstance(value, str) else json.dumps(value, default=str)
    if isinstance(kind, pl.Binary) and isinstance(value, str):
        return value.encode()
    if isinstance(kind, pl.List):
        inner: Any = kind.inner
        return [_fit(item, inner) for item in value]
    if isinstance(kind, pl.Struct):
        return {field.name: _fit(value.get(field.name), field.dtype) for field in kind.fields}  # type: ignore[arg-type]
    return value
