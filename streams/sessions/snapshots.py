"""Sessions of one partition as bytes, and back: what a checkpoint on local disk holds.

Upstream: stable states, which never change, so this runs beside the work. Downstream: the same
states, to which the events since then are added. Invariant: keys are made again from users and
devices when a snapshot is read; what waited to be told is told at the next flush.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from streamgauge.streams import packing
from streamgauge.streams.metrics.fate import NONE
from streamgauge.streams.metrics.keys import combine, of_strings
from streamgauge.streams.metrics.runs import Run
from streamgauge.streams.sessions.rows import plays_of, plays_text
from streamgauge.streams.sessions.sessions import (
    SLOTS,
    SessionState,
    Settings,
    Slot,
    slot_of,
)
from streamgauge.streams.sessions.spans import (
    DEVICE,
    DTYPES,
    PARTITION,
    PLAYS,
    USER,
    concatenated,
    objects,
    user_keys,
)

Array = np.ndarray

FORMAT = 1
"""To be raised whenever the state is made or kept in another way."""


def identity(settings: Settings) -> str:
    """What a snapshot depends on beside the log."""
    rule = str(settings.identifiable)
    return json.dumps(["sessions", FORMAT, settings.lateness, rule, settings.conversions])


def packed(states: Sequence[SessionState], partition: int) -> bytes:
    """One partition of each of these states."""
    parts: list[bytes] = []
    for state in states:
        open_ = state.open.where(lambda columns: columns[PARTITION] == partition)
        waiting = concatenated([run for slot in state.waiting for run in slot.events])
        waiting = waiting.take((waiting.columns[PARTITION] == partition).nonzero()[0])
        marks = [
            values.get(partition) for values in (state.watermarks, state.floors, state.offsets)
        ]
        parts.append(packing.packed({"open": _frame(open_), "waiting": _frame(waiting)}, marks))
    return packing.together(parts)


def unpacked(
    states: Sequence[SessionState], partition: int, snapshot: memoryview
) -> list[SessionState]:
    """The states with this partition as it was."""
    found: list[SessionState] = []
    for state, part in zip(states, packing.apart(snapshot), strict=True):
        by_device = len(found) > 0
        frames, (watermark, floor, offset) = packing.unpacked(part)
        run = _run(frames["open"], by_device)
        state = replace(
            state,
            open=state.open.put(np.unique(run.key), run),
            waiting=_with(state.waiting, _run(frames["waiting"], by_device), partition),
            watermarks=_marked(state.watermarks, partition, watermark),
            floors={**state.floors, partition: NONE if floor is None else floor},
            offsets=_marked(state.offsets, partition, offset),
        )
        found.append(state)
    return found


def _marked(values: Mapping[int, int], partition: int, value: int | None) -> Mapping[int, int]:
    return values if value is None else {**values, partition: value}


def _with(slots: Sequence[Slot], run: Run, partition: int) -> tuple[Slot, ...]:
    """What has waited, wherever its offset was, cannot wait any longer."""
    number = slot_of(run.key)
    found = []
    for at, slot in zip(range(SLOTS), slots, strict=True):
        mine = run.take((number == at).nonzero()[0])
        if len(mine.key):
            oldest = {**slot.oldest, partition: (-1, NONE)}
            slot = Slot(events=(*slot.events, mine), oldest=oldest, again=True)
        found.append(slot)
    return tuple(found)


def _frame(run: Run) -> pl.DataFrame:
    columns: dict[str, Any] = {}
    for number, (column, dtype) in enumerate(zip(run.columns, DTYPES, strict=True)):
        values = column.tolist() if dtype is object else column
        if number == PLAYS:
            values = [plays_text(plays) for plays in values]
        columns[str(number)] = pl.Series(values, dtype=pl.String if dtype is object else None)
    return pl.DataFrame(columns)


def _run(table: pl.DataFrame, by_device: bool) -> Run:
    columns: list[Array] = []
    for number, dtype in enumerate(DTYPES):
        values = table[str(number)]
        if number == PLAYS:
            columns.append(objects([plays_of(text) for text in values.to_list()]))
        elif dtype is object:
            columns.append(objects(values.to_list()))
        else:
            columns.append(values.to_numpy().astype(dtype, copy=False))
    key = user_keys(table[str(USER)], columns[PARTITION])
    if by_device:
        key = combine(of_strings(table[str(DEVICE)]), key)
    return Run(key=key, columns=tuple(columns))
