"""The lines of a file as a frame of events, and those that are none.

Upstream: `producers.files`, which reads the lines for `produce` as well. Downstream: `log.py`.
Invariant: every line is in one of the two frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import polars as pl

from streamgauge.producers.files import read_lines
from streamgauge.schemas.columnar import CORE, FIRST
from streamgauge.schemas.dtypes import dtype
from streamgauge.schemas.envelope import COLUMNS, Event
from streamgauge.schemas.errors import InvalidEvent
from streamgauge.schemas.unknown import KEPT, UnknownTypes

CHUNK = 20_000

LINE = "line number"
"""The column that says where an event was; no event has a field of that name."""

REJECTED = pl.Schema(
    {"line": pl.Int64(), "reason": pl.String(), "detail": pl.String(), "payload": pl.Binary()}
)


@dataclass(frozen=True, kw_only=True)
class Lines:
    """What became of a file's lines."""

    events: pl.DataFrame
    """LINE, then the columns that frames of events have, in the file's order."""
    rejected: pl.DataFrame
    """With the columns REJECTED."""

    @property
    def read(self) -> int:
        return self.events.height + self.rejected.height


def read(
    path: str,
    form: str,
    columns: Iterable[str],
    progress: Callable[[int], None],
    unknown: UnknownTypes = KEPT,
) -> Lines:
    """All lines of a file; `columns` are those to read beside what every frame of events has."""
    names = dict.fromkeys([*CORE, *sorted(columns)])
    types = {name: dtype(COLUMNS[name]) for name in names}
    frames = [_frame([], [], types)]
    rejected: list[tuple[int, str, str, bytes]] = []
    lines: list[int] = []
    events: list[Event] = []
    for number, text, _, event in read_lines(path, form, unknown):
        if isinstance(event, InvalidEvent):
            detail = str(event).encode(errors="backslashreplace").decode()
            rejected.append((number, event.reason, detail, text))
        else:
            lines.append(number)
            events.append(event)
        if number % CHUNK == 0:
            frames.append(_frame(lines, events, types))
            lines, events = [], []
            progress(number)
    frames.append(_frame(lines, events, types))
    return Lines(
        events=pl.concat(frames, rechunk=True),
        rejected=pl.DataFrame(rejected, schema=REJECTED, orient="row"),
    )


def _frame(lines: list[int], events: list[Event], types: dict[str, pl.DataType]) -> pl.DataFrame:
    """Type by type, for each has few of all columns."""
    empty = pl.DataFrame(schema={LINE: pl.Int64(), **types})
    by_type: dict[type[Event], list[tuple[int, dict[str, Any]]]] = {}
    for line, event in zip(lines, events, strict=True):
        by_type.setdefault(type(event), []).append((line, event.__dict__))
    frames = [empty]
    for cls, rows in by_type.items():
        columns = [pl.Series(LINE, [line for line, _ in rows], pl.Int64)]
        for name in types.keys() & cls.model_fields.keys():
            columns.append(pl.Series(name, [fields[name] for _, fields in rows], types[name]))
        frames.append(pl.DataFrame(columns))
    frame = pl.concat(frames, how="diagonal").sort(LINE)
    user_key = pl.coalesce("user_id", "anonymous_id").alias("user_key")
    rest = [name for name in types if name not in FIRST]
    return frame.with_columns(user_key).select(LINE, *FIRST, *rest)
