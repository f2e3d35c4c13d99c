"""The board: minutes of each source partition, until all have passed them.

Upstream: `anomaly-points`. Downstream: `tasks.py` takes whole minutes off, in order of time.

    source 0   ########|            done through here
    source 1   ############|
               ------->| whole: values of all source partitions, added up

Invariants: never changed in place; what is taken follows from the last row of each key, and how far
each source partition is; a version that began later, or after a hole, is whole from there on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import polars as pl

from streamgauge.streams.metrics.fate import NONE
from streamgauge.streams.metrics.parts import Entries, combined, unpack
from streamgauge.streams.metrics.plan import Plan
from streamgauge.streams.metrics.results import Results

MINUTE_MS = 60_000

Key = tuple[str, str, int]
"""Version, dimensions, source partition."""


class Span(NamedTuple):
    """Which minutes of a source partition have all been written."""

    since: int
    done: int


class Whole(NamedTuple):
    """Whole minutes of a version: `values` are (minute, dimensions, series, value), in order."""

    version: str
    values: list[tuple[int, str, str, float]]
    end: int


@dataclass(frozen=True, kw_only=True)
class Board:
    """Of one partition of `anomaly-points`."""

    rows: Mapping[int, Mapping[Key, bytes]] = field(default_factory=dict)
    """By minute."""
    spans: Mapping[str, Mapping[int, Span]] = field(default_factory=dict)
    """By version and source partition."""
    taken: Mapping[str, int] = field(default_factory=dict)
    """By version: minutes before it have been taken."""
    marks: tuple[tuple[int, int], ...] = ()
    """(first offset, last minute) of batches that had rows."""
    kept: tuple[tuple[str, int], ...] = ()
    """Version and minute of what was taken, and is in the changelog."""

    def added(self, frame: pl.DataFrame) -> Board:
        """With rows of the topic, in order."""
        rows = dict(self.rows)
        spans = dict(self.spans)
        last = NONE
        columns = ("source_partition", "version", "window_start", "dimensions", "parts")
        for source, version, start, dimensions, parts, since, done in frame.select(
            *columns, "since", "done"
        ).iter_rows():
            if start is None:
                of = spans.get(version, {})
                spans[version] = {**of, source: _further(of.get(source), since, done)}
            else:
                last = max(last, start)
                rows[start] = {**rows.get(start, {}), (version, dimensions, source): parts}
        marks = self.marks
        if last != NONE:
            marks = (*marks, (frame["offset"][0], last))
        return replace(self, rows=rows, spans=spans, marks=marks)

    def whole(self, plan: Plan, sources: int) -> tuple[Board, list[Whole]]:
        """Without what is whole, and that."""
        found, taken = [], dict(self.taken)
        for version, spans in self.spans.items():
            if version not in plan.numbers or len(spans) < sources:
                continue
            begin = max(taken.get(version, NONE), *(span.since for span in spans.values()))
            end = min(span.done for span in spans.values())
            if end > begin:
                found.append(Whole(version, self.values(plan, version, begin, end), end))
                taken[version] = end
        if not found:
            return self, []
        floor = min((taken.get(version, NONE) for version in self._open(plan)), default=NONE)
        rows = {minute: row for minute, row in self.rows.items() if minute >= floor}
        return replace(self, rows=rows, taken=taken), found

    def _open(self, plan: Plan) -> Iterable[str]:
        return (version for version in self.spans if version in plan.numbers)

    def values(
        self, plan: Plan, version: str, begin: int, end: int
    ) -> list[tuple[int, str, str, float]]:
        """Of the minutes in `[begin, end)`, added up over the source partitions."""
        places: dict[tuple[int, str], int] = {}
        numbers, parts = [], []
        for minute in sorted(minute for minute in self.rows if begin <= minute < end):
            for (of, dimensions, _), packed in sorted(self.rows[minute].items()):
                if of == version:
                    numbers.append(places.setdefault((minute, dimensions), len(places)))
                    parts.append(packed)
        if not places:
            return []
        entries = unpack(parts)
        row = np.array(numbers, np.int64)[entries.row]
        entries = combined(Entries(row, entries.slot, entries.value))
        results = Results([plan.grains[plan.numbers[version]]])
        none = np.zeros(len(places), np.int64)
        values = results.values(entries, none, none - 1)
        place = list(places)
        return [
            (*place[number], name, top / bottom)
            for number, name, top, bottom in zip(
                values.row.tolist(),
                results.names[values.series].tolist(),
                values.numerator.tolist(),
                values.denominator.tolist(),
                strict=True,
            )
        ]

    def pruned(self) -> Board:
        """Without marks that nobody goes back to."""
        first = min(self.rows, default=None)
        keep = (mark for mark in self.marks if first is not None and mark[1] >= first)
        needed = next(keep, None)
        marks = self.marks[self.marks.index(needed) :] if needed else ()
        return replace(self, marks=marks)

    @property
    def first(self) -> int | None:
        """The offset from which rows that are not taken are read again; of a pruned board."""
        return self.marks[0][0] if self.marks else None


def _further(known: Span | None, since: int | None, done: int) -> Span:
    """A span after a row of progress; rows that are read again change nothing."""
    since = NONE if since is None else since
    if known is None or since > known.done:
        return Span(since, done)
    return Span(known.since, max(known.done, done))
