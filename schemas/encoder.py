"""Rows of a frame to records, all at once, by polars' Avro writer.

Upstream: computations with rows for one of our topics. Downstream: the worker's producer.

The rows are written to an Avro container in memory and cut apart again. Each row's first column
is a mark (a random number of this process, which no row can hold but by 2^-128), followed by
the record's header: cutting at the marks leaves header and datum, ready to send.

Invariant: the bytes are those that `codec.py` writes for the same values.
"""

from __future__ import annotations

import io
import secrets
from typing import Any

import polars as pl

from streamgauge.schemas.avro import avro_schema, subject
from streamgauge.schemas.codec import HEADER, header, plain
from streamgauge.schemas.datum import varint
from streamgauge.schemas.dtypes import dtype
from streamgauge.schemas.errors import SchemaError
from streamgauge.schemas.registry import Registry

_MARK = "streamgauge_mark"
_RANDOM = secrets.token_bytes(16)
# How Avro writes the mark's column: not null, so many bytes, and the bytes.
_CUT = varint(1) + varint(len(_RANDOM) + HEADER) + _RANDOM
_SYNC = 16
_CELLS = 40_000
"""As much at once as stays in the processor's cache: wide rows take half the time so."""


class Encoder:
    """Encodes frames of one of our records (not events) for one topic."""

    def __init__(self, registry: Registry, topic: str, record: type) -> None:
        """`topic` is the name without the namespace; the schema is registered here."""
        schema = avro_schema(record)
        fields = plain(schema)["fields"]
        if any(not isinstance(field["type"], list) for field in fields):
            raise SchemaError(f"{record.__name__} has required fields: encode it by Codec")
        self.schema_id = registry.register(subject(topic, record), schema)
        self._mark = pl.Series(_MARK, [_RANDOM + header(self.schema_id)], dtype=pl.Binary)
        self._types = {field["name"]: dtype(field["type"]) for field in fields}
        self._missing = {
            name: pl.Series(name, [None], dtype=kind) for name, kind in self._types.items()
        }

    def encode(self, frame: pl.DataFrame) -> list[bytes]:
        """One record a row, header and all; columns by name, missing ones are null."""
        given = {series.name: series for series in frame.rechunk().get_columns()}
        if unknown := given.keys() - self._types.keys():
            raise SchemaError(f"no field for the columns {', '.join(sorted(unknown))}")
        height = frame.height
        columns = [
            _cast(given[name], kind)
            if name in given
            else self._missing[name].new_from_index(0, height)
            for name, kind in self._types.items()
        ]
        table = self._mark.new_from_index(0, height).to_frame().hstack(columns)
        size = _CELLS // table.width
        records: list[bytes] = []
        for first in range(0, height, size):
            file = io.BytesIO()
            table.slice(first, size).write_avro(file)
            rows = _blocks(file.getvalue()).split(_CUT)
            if rows[0]:
                raise SchemaError(f"{len(rows[0])} bytes are before the first record")
            records += rows[1:]
        if len(records) != height:
            raise SchemaError(f"{height} rows became {len(records)} records")
        return records


def _cast(series: pl.Series, kind: pl.DataType) -> pl.Series:
    return series if series.dtype == kind else series.cast(kind)


def _blocks(file: bytes) -> bytes:
    """The records of an Avro container file without what is around them."""
    at = 4  # the magic
    count, at = _read_long(file, at)
    while count:  # the header's map: key, value
        for _ in range(2 * count):
            size, at = _read_long(file, at)
            at += size
        count, at = _read_long(file, at)
    at += _SYNC
    blocks: list[Any] = []
    while at < len(file):
        _, at = _read_long(file, at)
        size, at = _read_long(file, at)
        blocks.append(file[at : at + size])
        at += size + _SYNC
    return b"".join(blocks)


def _read_long(data: bytes, at: int) -> tuple[int, int]:
    """An Avro long and the place after it."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
