"""Moves into segments and out of them, as columns.

Upstream: `evaluation.py`, which finds who moves. Downstream: `outputs.py`. A reason is computed
once for each value that a field has, not once a move. Invariant: the moves of one user come in
order of time.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import polars as pl

from streamgauge.schemas.segments import Rules, Segment
from streamgauge.streams.metrics import keys
from streamgauge.streams.metrics.runs import Runs
from streamgauge.streams.segments.state import GONE, segment_key, stay_keys

Array = np.ndarray


class Move(NamedTuple):
    """Somebody enters a segment or leaves it."""

    partition: int
    at: int
    user_id: str
    segment: str
    entered_at: int
    is_member: bool
    reason: str
    """JSON: the values of the fields in the rule; `change` where the rule's change caused it."""
    rule_version: str


SCHEMA: Mapping[str, Any] = {
    "partition": pl.Int32,
    "at": pl.Int64,
    "user_id": pl.String,
    "segment": pl.String,
    "entered_at": pl.Int64,
    "is_member": pl.Boolean,
    "reason": pl.String,
    "rule_version": pl.String,
}


@dataclass(frozen=True)
class Moves:
    """Some moves."""

    frame: pl.DataFrame
    """The fields of `Move`."""

    def __len__(self) -> int:
        return self.frame.height

    def __iter__(self) -> Iterator[Move]:
        return map(Move._make, self.frame.iter_rows())

    @staticmethod
    def none() -> Moves:
        return _NONE

    @staticmethod
    def together(parts: Iterable[Moves]) -> Moves:
        frames = [part.frame for part in parts if len(part)]
        return Moves(pl.concat(frames)) if frames else Moves.none()

    def sorted(self) -> Moves:
        """In the order in which they are told."""
        if len(self) < 2:
            return self
        # Stable: what happens to one user at one time stays in its order.
        by = ("partition", "at", "user_id", "segment")
        return Moves(self.frame.sort(by, maintain_order=True))

    def net(self) -> dict[tuple[int, str], int]:
        """By partition and segment: how many more are in it."""
        columns = (self.frame[name].to_list() for name in ("partition", "segment", "is_member"))
        sums: Counter[tuple[int, str]] = Counter()
        for partition, segment, is_member in zip(*columns, strict=True):
            sums[partition, segment] += 1 if is_member else -1
        return sums


_NONE = Moves(pl.DataFrame(schema=SCHEMA))


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Moves as pairs of a row and a segment: by segment, user and time."""

    segments: Sequence[Segment]
    row: Array
    """Among the rows that were given."""
    segment: Array
    """The place in `segments`; sorted."""
    key: Array
    """Of the stay."""
    minute: Array
    is_member: Array

    @staticmethod
    def of(
        user: Array, minute: Array, turned: Array, enter: Array, rules: Rules, bits: Sequence[int]
    ) -> Pairs:
        """Rows are sorted by user and time."""
        bit = np.array(bits, np.int64)
        which, row = (turned[None, :] >> bit[:, None] & 1).nonzero()
        segments = [rules.segments[one] for one in bits]
        names = np.array([segment_key(one.name) for one in segments], np.uint64)
        return Pairs(
            segments=segments,
            row=row,
            segment=which,
            key=stay_keys(user[row], names[which]),
            minute=minute[row],
            is_member=(enter[row] >> bit[which] & 1).astype(bool),
        )

    def stays(self, before: Runs, partition: Array) -> tuple[Runs, Array]:
        """What becomes of the stays, and since when each pair's stay is."""
        known = np.full(len(self.key), GONE)
        which, columns = before.find(self.key)
        known[which] = columns[1]
        same = ~keys.firsts(self.key)  # as the pair before: then that one enters
        known[1:][same[1:]] = self.minute[:-1][same[1:]]
        last = np.append(~same[1:], True)
        since = np.where(self.is_member, self.minute, GONE)[last]
        after = before.add(self.key[last], partition[self.row][last], since)
        return after, np.where(self.is_member, self.minute, known)

    def moves(
        self,
        profiles: pl.DataFrame,
        moved: Array,
        entered: Array,
        change: str | None,
        *,
        with_values: bool,
    ) -> Moves:
        """As they are told; `moved` are the places of the rows in `profiles`."""
        rows = moved[self.row]
        bounds = np.searchsorted(self.segment, np.arange(len(self.segments) + 1)).tolist()
        reasons: list[str] = []
        for segment, begin, end in zip(self.segments, bounds, bounds[1:], strict=False):
            fields = segment.fields if with_values else ()
            values = [profiles[field][rows[begin:end]] for field in fields]
            reasons += reasons_of(values, end - begin, change)
        names = pl.Series([segment.name for segment in self.segments], dtype=pl.String)
        versions = pl.Series([segment.version for segment in self.segments], dtype=pl.String)
        told = {
            "partition": profiles["partition"][rows],
            "at": self.minute,
            "user_id": profiles["user_key"][rows],
            "segment": names[self.segment],
            "entered_at": entered,
            "is_member": self.is_member,
            "reason": reasons,
            "rule_version": versions[self.segment],
        }
        return Moves(pl.DataFrame(told, schema=SCHEMA))


def reasons_of(values: Sequence[pl.Series], height: int, change: str | None) -> list[str]:
    """The values behind so many moves as JSON; real numbers to six places."""
    said = [[f'"change":{_json(change)}'] * height] if change else []
    for series in values:
        listed = series.to_list()
        texts = {value: f"{_json(series.name)}:{_json(value)}" for value in set(listed)}
        said.append([texts[value] for value in listed])
    if not said:
        return ["{}"] * height
    return ["{" + ",".join(parts) + "}" for parts in zip(*said, strict=True)]


def _json(value: float | str | None) -> str:
    told = round(value, 6) if isinstance(value, float) else value
    return json.dumps(told, ensure_ascii=False)
