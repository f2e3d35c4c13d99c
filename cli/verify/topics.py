"""Reads the topics that the worker writes: metrics, dead letters and late events.

Upstream: `log`, `schemas.codec`. Downstream: `compare`. Invariants: of `metrics` the last value of
each key counts; a dead letter or late event that is there twice is kept as two.
"""

from collections.abc import Collection
from typing import Any

from streamgauge.cli.verify.cells import Cell, CellKey, canonical
from streamgauge.cli.verify.log import Log
from streamgauge.cli.verify.report import Difference
from streamgauge.schemas.codec import Codec

At = tuple[int, int]


class Topics:
    """The output topics of one namespace."""

    def __init__(self, log: Log, codec: Codec) -> None:
        self._log = log
        self._codec = codec

    def metrics(self, topic: str) -> tuple[dict[CellKey, Cell], list[Difference]]:
        """Every cell of the last rows, and rows whose key does not name what they hold."""
        cells: dict[CellKey, Cell] = {}
        misnamed = []
        for key, value in self._log.last_values(topic).items():
            row = self._codec.decode(value).record
            name = (row["window_size"], row["window_start"], row["version"], row["dimensions"])
            if (key or b"").decode() != (text := "|".join(map(str, name))):
                misnamed.append(
                    Difference(target="metrics", key=repr(key), expected="the key", found=text)
                )
            _cells_of(row, cells)
        return cells, misnamed

    def by_offset(
        self, topic: str, sources: Collection[str], field: str
    ) -> tuple[dict[At, str], int]:
        """A field of each row about a topic of `sources`, and how many rows came twice."""
        said: dict[At, str] = {}
        twice = 0
        if not self._log.exists(topic):
            return said, twice
        for chunk in self._log.read(topic, *self._log.bounds(topic)):
            for message in chunk:
                row = self._codec.decode(message.value() or b"").record
                if row["topic"] in sources:
                    at = (row["partition"], row["offset"])
                    twice += at in said
                    said[at] = row[field]
        return said, twice


def _cells_of(row: dict[str, Any], cells: dict[CellKey, Cell]) -> None:
    base = CellKey(
        "", row["window_size"], row["window_start"], row["version"], canonical(row["dimensions"])
    )
    users, final = row["users"], row["is_final"]
    # A row without any observation says nothing; its arrays may be null.
    names = ("metrics", "values", "numerators", "denominators")
    parts = zip(*(row[name] or () for name in names), strict=True)
    for metric, value, numerator, denominator in parts:
        cells[base._replace(metric=metric)] = Cell(value, numerator, denominator, users, final)
