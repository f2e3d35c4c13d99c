"""How the records of one writer's schema become the columns that a reader wants.

Upstream: `columnar.py`, which groups the records by schema. Avro's rules of schema resolution hold,
column by column: what the writer lacks is null, what nobody asks for is left out, numbers are
promoted, and a column of another type makes the whole schema unreadable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from streamgauge.schemas.codec import parse, read_datum
from streamgauge.schemas.compatibility import backward_problems
from streamgauge.schemas.container import Container, Part
from streamgauge.schemas.dtypes import column, dtype, readable, strings_as_bytes
from streamgauge.schemas.errors import UndecodableRecord

NOTHING = "streamgauge_nothing"
"""A column of frames that have none of those wanted."""


class Resolution:
    """Reads what one schema wrote, as the columns wanted."""

    def __init__(self, schema_id: int, schema: Any, columns: Mapping[str, Any]) -> None:
        written = {item["name"]: item["type"] for item in schema["fields"]}
        shared = [name for name in columns if name in written]
        self._schema_id = schema_id
        self._parsed = parse(schema)
        self.name: str = self._parsed["name"]
        self._container = Container(schema, shared) if readable(schema) else None
        self._types = {name: dtype(columns[name]) for name in shared}
        self._raw = {name: dtype(strings_as_bytes(columns[name])) for name in shared}
        self._promoted = [
            name for name in shared if dtype(strings_as_bytes(written[name])) != self._raw[name]
        ]

    def read(
        self, values: Sequence[bytes], at: np.ndarray
    ) -> tuple[list[pl.DataFrame], list[np.ndarray], list[tuple[int, UndecodableRecord]]]:
        """The rows and their places, in parts; and what is no record, with the reason.

        `at` are the places of the values.
        """
        parts: list[Part] = []
        doubtful: Sequence[int] = range(len(values))
        if self._container:
            parts, doubtful = self._container.sort_out(values, range(len(values)))
        frames = [self._promote(frame, len(of)) for frame, of in parts]
        places = [at[of.start : of.stop] for _, of in parts]
        rows: list[dict[str, Any]] = []
        good: list[int] = []
        bad: list[tuple[int, UndecodableRecord]] = []
        for i in doubtful:
            try:
                rows.append(read_datum(values[i], self._parsed, schema_id=self._schema_id))
                good.append(int(at[i]))
            except UndecodableRecord as error:
                bad.append((int(at[i]), error))
        if rows:
            frames.append(self._from_rows(rows))
            places.append(np.array(good, at.dtype))
        return frames, places, bad

    def read_all(self, values: Sequence[bytes], head: bytes) -> pl.DataFrame | None:
        """The rows of records that all begin with `head`; None when one may be something else."""
        frame = self._container.read(values, head) if self._container else None
        return None if frame is None else self._promote(frame, len(values))

    def _promote(self, frame: pl.DataFrame, rows: int) -> pl.DataFrame:
        if not self._types:  # so that there are rows, though without any of the columns
            return pl.select(pl.repeat(None, rows).alias(NOTHING))
        for name in self._promoted:
            frame = frame.with_columns(frame[name].cast(self._raw[name]))
        return frame

    def _from_rows(self, rows: list[dict[str, Any]]) -> pl.DataFrame:
        if not self._types:
            return self._promote(pl.DataFrame(), len(rows))
        return pl.DataFrame(
            [
                column([row[name] for row in rows], kind).cast(self._raw[name]).alias(name)
                for name, kind in self._types.items()
            ]
        )


def agreeing(schema: Any, columns: Mapping[str, Any]) -> dict[str, Any]:
    """The columns but those that this schema has in a type that they cannot hold."""
    written = {field["name"]: field["type"] for field in schema["fields"]}
    return {
        name: kind
        for name, kind in columns.items()
        if name not in written or not backward_problems(kind, written[name])
    }


def check(schema_id: int, schema: Any, columns: Mapping[str, Any]) -> None:
    """Raise UndecodableRecord when the schema has one of the columns in a type of its own."""
    written = [field for field in schema["fields"] if field["name"] in columns]
    wanted = [{"name": field["name"], "type": columns[field["name"]]} for field in written]
    problems = backward_problems(
        {"type": "record", "name": "r", "fields": wanted},
        {"type": "record", "name": "r", "fields": written},
    )
    if problems:
        raise UndecodableRecord("undecodable", "; ".join(problems), schema_id)
