"""Sessions of one partition as bytes, and back: what a checkpoint on local disk holds.

Upstream: stable states, which never change, so this runs beside the work. Downstream: the same
states, to which the events since then are added. Invariant: keys are made again from users and
devices when a snapshot is read; what waited to be told is told at the next flush.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import polars as pl

from streamgauge.streams import packing
from streamgauge.streams.metrics.fate import NONE
from streamgauge.streams.metrics.keys import among, combine, distinct, of_strings
from streamgauge.streams.metrics.runs import Run
from streamgauge.streams.sessions.sessions import (
    SLOTS,
    SessionState,
    Settings,
    Slot,
    changed,
    names_of,
    slot_of,
    taken_up,
    with_open,
)
from streamgauge.streams.sessions.spans import SPAN, TEXTS, Read, concatenated, user_keys
from streamgauge.streams.sessions.texts import Texts

Array = np.ndarray

FORMAT = 3
"""To be raised whenever the state is made or kept in another way."""


def identity(settings: Settings) -> str:
    """What a snapshot depends on beside the log."""
    rule = str(settings.identifiable)
    return json.dumps(["sessions", FORMAT, settings.lateness, rule, settings.conversions])


def packed(states: Sequence[SessionState], partition: int) -> bytes:
    """One partition of each of these states."""
    parts: list[bytes] = []
    for state in states:
        table = state.open.where(lambda columns: columns[0]["partition"] == partition)
        open_ = Run(key=table.key, columns=table.columns[:1])
        waiting = concatenated([run for slot in state.waiting for run in slot.events])
        waiting = waiting.take((waiting.columns[0]["partition"] == partition).nonzero()[0])
        marks = [
            values.get(partition) for values in (state.watermarks, state.floors, state.offsets)
        ]
        frames = _frames(concatenated([open_, waiting]), state.texts)
        is_changed = among(names_of(open_.key, open_.columns[0]), changed(state.waiting, open_.key))
        frames["changed"] = pl.DataFrame({"": is_changed})
        parts.append(packing.packed(frames, [*marks, len(open_.key)]))
    return packing.together(parts)


def unpacked(
    states: Sequence[SessionState], partition: int, snapshot: memoryview
) -> list[SessionState]:
    """These states with the partition as it was."""
    found: list[SessionState] = []
    for state, part in zip(states, packing.apart(snapshot), strict=True):
        frames, (watermark, floor, offset, count) = packing.unpacked(part)
        state, run = taken_up(state, _read(frames, by_device=len(found) > 0))
        places = np.arange(len(run.key))
        open_, waiting = run.take(places[:count]), run.take(places[count:])
        untold = open_.take(frames["changed"].to_series().to_numpy().nonzero()[0])
        state = replace(
            state,
            open=with_open(state.open, distinct(open_.key), open_, 0),
            waiting=_with(state.waiting, waiting, untold, partition),
            watermarks=_marked(state.watermarks, partition, watermark),
            floors={**state.floors, partition: NONE if floor is None else floor},
            offsets=_marked(state.offsets, partition, offset),
        )
        found.append(state)
    return found


def _marked(values: Mapping[int, int], partition: int, value: int | None) -> Mapping[int, int]:
    return values if value is None else {**values, partition: value}


def _with(slots: Sequence[Slot], run: Run, untold: Run, partition: int) -> tuple[Slot, ...]:
    """What has waited, wherever its offset was, cannot wait any longer."""
    number, number_untold = slot_of(run.key), slot_of(untold.key)
    names, found = names_of(untold.key, untold.columns[0]), []
    for at, slot in zip(range(SLOTS), slots, strict=True):
        mine, some = (number == at).nonzero()[0], (number_untold == at).nonzero()[0]
        if len(mine) or len(some):
            slot = replace(
                slot,
                events=(*slot.events, run.take(mine)) if len(mine) else slot.events,
                changed=slot.changed.add(untold.key[some], names[some]),
                oldest={**slot.oldest, partition: (-1, NONE)},
                again=slot.again or len(mine) > 0,
            )
        found.append(slot)
    return tuple(found)


def _frames(run: Run, texts: Texts) -> dict[str, pl.DataFrame]:
    rows, used = run.columns[0], np.zeros(len(texts), bool)
    for name in TEXTS:
        used[rows[name]] = True
    mine, number = texts.only(used)
    columns = {name: np.ascontiguousarray(rows[name]) for name in SPAN.names or ()}
    columns |= {name: number[columns[name]] for name in TEXTS}
    return {"rows": pl.DataFrame(columns), "texts": pl.DataFrame({"": mine.chunks[0][1:]})}


def _read(frames: Mapping[str, pl.DataFrame], *, by_device: bool) -> Read:
    table, texts = frames["rows"], frames["texts"].to_series()
    rows = np.zeros(table.height, SPAN)
    for name in table.columns:
        rows[name] = table[name].to_numpy()
    known = Texts().add(texts)
    key = user_keys(known.of(rows["user"]), rows["partition"])
    if by_device:
        key = combine(of_strings(known.of(rows["device"])), key)
    return Read(run=Run(key=key, columns=(rows,)), texts=texts)
