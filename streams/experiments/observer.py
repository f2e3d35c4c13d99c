"""What the experiments in force read of a batch: events that count, and exposures.

Upstream: accepted events. Downstream: `exposures.py`. Who denied analytics is in neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import polars as pl

from streamgauge.schemas.events import EVENT_TYPES
from streamgauge.schemas.experiment_checks import UNREAD
from streamgauge.schemas.experiments import HOUR_MS, Experiment, selection_id
from streamgauge.schemas.metric_fields import DERIVED, field_kind
from streamgauge.schemas.metrics import Selection
from streamgauge.streams.experiments.names import Names
from streamgauge.streams.experiments.tally import Layout
from streamgauge.streams.metrics import columns
from streamgauge.streams.metrics.keys import combine
from streamgauge.streams.metrics.reading import Reader

Array = np.ndarray

LEFT_OUT = "left out"
"""A column of frames in which there are events that do not count."""
EXPOSURE = Selection(events=("experiment_exposure",), where=(), field=None, kind=None, kinds=())


@dataclass(frozen=True, kw_only=True)
class _Rows:
    """Columns of the same length."""

    row: Array
    """Of the frame."""
    user: Array
    partition: Array
    offset: Array
    timestamp: Array

    def take(self, index: Array) -> Self:
        """These rows."""
        return type(self)(**{each.name: getattr(self, each.name)[index] for each in fields(self)})


@dataclass(frozen=True, kw_only=True)
class Hits(_Rows):
    """Events that a selection takes: an event taken by two is here twice."""

    slot: Array
    """The selection's number."""
    value: Array

    @property
    def hour(self) -> Array:
        return self.timestamp // HOUR_MS


@dataclass(frozen=True, kw_only=True)
class LeftOut(_Rows):
    """Events that do not count, of users whom a policy excludes."""


@dataclass(frozen=True, kw_only=True)
class Shown(_Rows):
    """Exposures to a variant of an experiment that runs."""

    experiment: Array
    variant: Array


class Observer:
    """For partitions in which the same experiments are in force."""

    def __init__(self, experiments: Sequence[Experiment], names: Names) -> None:
        self.running = tuple(e for e in experiments if e.state == "running")
        self.layouts = {e.name: Layout.of(e.definition) for e in experiments}
        found = dict.fromkeys(s for layout in self.layouts.values() for s in layout.selections)
        self.ids = [selection_id(selection) for selection in found]
        self.slots = {s: names.number(name) for s, name in zip(found, self.ids, strict=True)}
        self._reader = Reader([*found, EXPOSURE], [])  # by their places: EXPOSURE is the last
        self._variants = {
            (e.name, v.name): (names.number(e.name), names.number(v.name))
            for e in self.running
            for v in e.definition.variants
        }
        self._ends = {names.number(e.name): e.end for e in self.running}

    def read(
        self, frame: pl.DataFrame, wanted: Array, identifiable: pl.Expr
    ) -> tuple[Hits, Shown, LeftOut]:
        """`wanted` is a mask of rows. Exposures that are left out count, to be counted as such."""
        events = self._reader.events(frame, wanted, identifiable)
        user = combine(events.user, events.partition)
        timestamp, offset = frame["timestamp"].to_numpy(), frame["offset"].to_numpy()
        rows, slots, values = [], [], []
        for place, (selection, slot) in enumerate(self.slots.items()):
            if selection.field is None:
                row = events.taken[place]
                value = np.ones(len(row), np.int64)
            else:
                row, value = events.seen[place]
                value = columns.scaled(value).astype(np.int64)
            kept = events.has_user[row]
            rows.append(row[kept])
            values.append(value[kept])
            slots.append(np.full(len(rows[-1]), slot, np.int32))
        out = np.zeros(0, np.int64)
        if LEFT_OUT in frame.columns:
            is_out = frame[LEFT_OUT].to_numpy()
            out = np.flatnonzero(is_out & wanted & events.has_user)
            counting = [~is_out[each] for each in rows]
            rows, slots, values = (
                [each[kept] for each, kept in zip(part, counting, strict=True)]
                for part in (rows, slots, values)
            )
        row = np.concatenate([np.zeros(0, np.int64), *rows])
        hits = Hits(
            row=row,
            user=user[row],
            partition=events.partition[row],
            offset=offset[row],
            timestamp=timestamp[row],
            slot=np.concatenate([np.zeros(0, np.int32), *slots]),
            value=np.concatenate([np.zeros(0, np.int64), *values]),
        )
        shown = events.taken[-1]
        shown = shown[events.has_user[shown]]
        if len(shown):
            names = frame.select(pl.col("experiment_id", "variant").gather(shown)).rows()
            told = [self._variants.get(name, (-1, -1)) for name in names]
            number = np.array(told, np.int32).reshape(-1, 2)
            end = np.array([self._ends.get(e, 0) for e in number[:, 0].tolist()])
            kept = (number[:, 0] >= 0) & (timestamp[shown] < end)
            shown, number = shown[kept], number[kept]
        else:
            number = np.zeros((0, 2), np.int32)
        places = (user, events.partition, offset, timestamp)
        names_of = ("user", "partition", "offset", "timestamp")
        told_of = Shown(
            row=shown,
            **{name: column[shown] for name, column in zip(names_of, places, strict=True)},
            experiment=number[:, 0],
            variant=number[:, 1],
        )
        left_out = LeftOut(
            row=out, **{name: column[out] for name, column in zip(names_of, places, strict=True)}
        )
        return hits, told_of, left_out


def readable() -> frozenset[str]:
    """Every column that a definition to come may read."""
    classes = EVENT_TYPES.values()
    names = {name for cls in classes for name in cls.model_fields if field_kind(cls, name)}
    return columns.needed({*names, *DERIVED} - UNREAD) | {"experiment_id", "variant"}
