"""Many records of one schema in one read: polars' Avro reader, made safe for what Kafka holds.

Upstream: the values of one schema id, header and all. Downstream: `columnar.py`.

The records are joined behind one Avro container header and read at once, at 0.6 µs a record
(fastavro: 11). Joined records can corrupt their neighbours without any error: an empty one and
a double one make thousands of wrong rows. Hence the guard, a random number that follows each
record and is read as its last column: n rows with n guards are n records, each read from its
first byte to its last. What a read refuses is split until the bad ones stand alone.

Invariant: whether a record is accepted depends on its own bytes only, not on its neighbours,
nor on the columns asked for. So strings are read as bytes, and arrays always (polars skips over
some that it cannot read).
"""

from __future__ import annotations

import io
import json
import secrets
from collections.abc import Sequence
from typing import Any

import polars as pl

from streamgauge.schemas.codec import HEADER
from streamgauge.schemas.datum import varint
from streamgauge.schemas.dtypes import has_array, strings_as_bytes

SPLIT = 16
"""Parts into which a refused read is cut: few records are bad, and a read costs 35 µs."""

_GUARD_NUMBER = secrets.randbits(62)
_GUARD_BYTES = varint(_GUARD_NUMBER)
_GUARD = "streamgauge_guard"
_HEADER = "streamgauge_header"
_SYNC = bytes(16)


class Container:
    """Reads records that one schema wrote, some of their columns."""

    def __init__(self, schema: Any, columns: Sequence[str]) -> None:
        """`schema` is plain (no logical types) and readable; `columns` are fields of it."""
        fields = [
            {"name": _HEADER, "type": {"type": "fixed", "name": _HEADER, "size": HEADER}},
            *strings_as_bytes(schema)["fields"],
            {"name": _GUARD, "type": "long"},
        ]
        text = json.dumps({"type": "record", "name": schema["name"], "fields": fields}).encode()
        self._head = b"".join(
            (b"Obj\x01", varint(1), varint(11), b"avro.schema", varint(len(text)), text)
        ) + b"\x00" + _SYNC  # fmt: skip
        arrays = [field["name"] for field in schema["fields"] if has_array(field["type"])]
        self._columns = list(dict.fromkeys((*columns, *arrays, _GUARD)))
        self._unwanted = set(arrays) - set(columns)

    def read(self, values: Sequence[bytes], head: bytes | None = None) -> pl.DataFrame | None:
        """All of the records as rows, or None when any of them is in doubt.

        With `head`, also when one has another header: cheaper than to look at each beforehand.
        """
        columns = self._columns if head is None else [*self._columns, _HEADER]
        try:
            body = _GUARD_BYTES.join([*values, b""])
            file = b"".join((self._head, varint(len(values)), varint(len(body)), body, _SYNC))
            frame = pl.read_avro(io.BytesIO(file), columns=columns)
            guards = frame.drop_in_place(_GUARD)
            # The least and the greatest: a tenth of what comparing each costs in a small batch.
            if guards.len() != len(values) or not guards.min() == _GUARD_NUMBER == guards.max():
                return None
            if head is not None:
                heads = frame.drop_in_place(_HEADER)
                if not (heads == pl.lit(head)).all():
                    return None
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException:  # also polars' PanicException, which is no Exception
            return None
        for name in self._unwanted:
            frame.drop_in_place(name)
        return frame

    def sort_out(self, values: Sequence[bytes], at: range) -> tuple[list[Part], list[int]]:
        """What can be read, in parts, and the places of the records that cannot.

        `at` are the records' places in the batch.
        """
        frame = self.read(values)
        if frame is not None:
            return [(frame, at)], []
        if len(values) == 1:
            return [], [at[0]]
        parts: list[Part] = []
        bad: list[int] = []
        step = -(-len(values) // SPLIT)
        for start in range(0, len(values), step):
            more, worse = self.sort_out(values[start : start + step], at[start : start + step])
            parts += more
            bad += worse
        return parts, bad


Part = tuple[pl.DataFrame, range]
"""Rows, and the places they have in the batch."""
