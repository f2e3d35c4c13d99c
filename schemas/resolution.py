"""How the records of one writer's schema become the columns that a reader wants.

Upstream: `columnar.py`, which groups the records by schema. Avro's rules of schema resolution hold,
column by column: what the writer lacks is null, what nobody asks for is left out, numbers are
promoted, and a column of another type makes the whole schema unreadable.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from streamgauge.schemas.codec import parse, read_datum
from streamgauge.schemas.compatibility import backward_problems
from streamgauge.schemas.container import Container, Part
from streamgauge.schemas.dtypes import column, dtype, readable, strings_as_bytes
from streamgauge.schemas.errors import UndecodableRecord


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
        self, values: Sequence[bytes], at: Sequence[int]
    ) -> tuple[list[pl.DataFrame], list[tuple[int, UndecodableRecord]]]:
        """The rows, with their places as `index`; and what is no record, with the reason."""
        parts: list[Part] = []
        doubtful: Sequence[int] = range(len(values))
        if self._container:
            parts, doubtful = self._container.sort_out(values, doubtful)
        frames = [
            self._promote(frame).insert_column(
                0, pl.Series("index", [at[i] for i in places], pl.UInt32)
            )
            for frame, places in parts
        ]
        rows: list[dict[str, Any]] = []
        good: list[int] = []
        bad: list[tuple[int, UndecodableRecord]] = []
        for i in doubtful:
            try:
                rows.append(read_datum(values[i], self._parsed, schema_id=self._schema_id))
                good.append(at[i])
            except UndecodableRecord as error:
                bad.append((at[i], error))
        if rows:
            frames.append(self._from_rows(rows, good))
        return frames, bad

    def _promote(self, frame: pl.DataFrame) -> pl.DataFrame:
        for name in self._promoted:
            frame = frame.with_columns(frame[name].cast(self._raw[name]))
        return frame

    def _from_rows(self, rows: list[dict[str, Any]], at: list[int]) -> pl.DataFrame:
        return pl.DataFrame(
            [pl.Series("index", at, pl.UInt32)]
            + [
                column([row[name] for row in rows], kind).cast(self._raw[name]).alias(name)
                for name, kind in self._types.items()
            ]
        )


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
