"""Moves into segments and out of them, as columns.

Upstream: `evaluation.py`, which finds who moves. Downstream: `outputs.py`. A reason is computed
once for each value that a field has, not once a move. Invariant: the moves of one user come in
order of time.
"""

from __future__ import annotations

import json
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
        return Moves(pl.DataFrame(schema=SCHEMA))

    @staticmethod
    def together(parts: Iterable[Moves]) -> Moves:
        frames = [part.frame for part in parts if len(part)]
        return Moves(pl.concat(frames)) if frames else Moves.none()

    def sorted(self) -> Moves:
        """In the order in which they are told."""
        # Stable: what happens to one user at one time stays in its order.
        by = ("partition", "at", "user_id", "segment")
        return Moves(self.frame.sort(by, maintain_order=True))

    def net(self) -> dict[tuple[int, str], int]:
        """By partition and segment: how many more are in it."""
        sums = self.frame.group_by("partition", "segment").agg(
            net=pl.when("is_member").then(1).otherwise(-1).sum()
        )
        return {(partition, segment): net for partition, segment, net in sums.iter_rows()}


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
        bounds = np.searchsorted(self.segment, np.arange(len(self.segments) + 1)).tolist()
        parts = []
        for place, segment in enumerate(self.segments):
            mine = slice(bounds[place], bounds[place + 1])
            if mine.start == mine.stop:
                continue
            rows = profiles[moved[self.row[mine]]]
            fields = segment.fields if with_values else ()
            reasons = reasons_of(rows.select(fields), rows.height, change)
            told = pl.DataFrame(
                {
                    "partition": rows["partition"],
                    "at": self.minute[mine],
                    "user_id": rows["user_key"],
                    "segment": segment.name,
                    "entered_at": entered[mine],
                    "is_member": self.is_member[mine],
                    "reason": reasons,
                    "rule_version": segment.version,
                },
                schema=SCHEMA,
            )
            parts.append(Moves(told))
        return Moves.together(parts)


def reasons_of(values: pl.DataFrame, height: int, change: str | None) -> pl.Series:
    """The values behind so many moves as JSON; real numbers to six places."""
    parts = [pl.repeat("{", height)]
    named = [f'"change":{_json(change)}'] if change else []
    for series in values:
        named.append(f"{_json(series.name)}:")
        parts += [pl.lit(",".join(named)), pl.lit(_texts(series))]
        named = [""]  # a comma before the next
    return pl.select(pl.concat_str(*parts, pl.lit(",".join(named) + "}"))).to_series()


def _texts(series: pl.Series) -> pl.Series:
    """Values as JSON."""
    known = series.unique()
    texts = pl.Series([_json(value) for value in known], dtype=pl.String)
    return series.replace_strict(known, texts, return_dtype=pl.String)


def _json(value: float | str | None) -> str:
    told = round(value, 6) if isinstance(value, float) else value
    return json.dumps(told, ensure_ascii=False)
