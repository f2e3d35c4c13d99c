"""The state of one partition as bytes, and back: its part of a checkpoint on local disk.

Upstream: stable states, which never change. Downstream: the same state, to which the input since
then is added as it was at first. Tallies are made anew from it. Invariant: numbers of names are
those of the process that wrote it, or the snapshot is of no use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from streamgauge.streams.experiments.in_force import InForce
from streamgauge.streams.experiments.names import Names
from streamgauge.streams.experiments.state import PLACES, TABLES, State, without
from streamgauge.streams.metrics.snapshots import added, table
from streamgauge.streams.packing import packed, unpacked

FORMAT = 2


def of_partition(state: State, partition: int, names: Sequence[str]) -> bytes:
    """What a partition has."""
    state = without(state, {p for p in (*state.positions, *state.in_force) if p != partition})
    content = {name: getattr(state, name).get(partition) for name in PLACES}
    content["names"] = list(names)
    content["in_force"] = state.in_force.get(partition, InForce()).to_json()
    content["forgotten"] = state.forgotten
    return packed({name: table(getattr(state, name)) for name in TABLES}, content)


def with_partition(
    state: State, partition: int, snapshot: memoryview, names: Names
) -> State | None:
    """With a partition as it was; None if its numbers are not those of this process."""
    frames, content = unpacked(snapshot)
    if not names.adopt(content["names"]):
        return None
    places: dict[str, Any] = {
        name: {**getattr(state, name), partition: content[name]}
        for name in PLACES
        if content[name] is not None
    }
    tables: dict[str, Any] = {name: added(getattr(state, name), frames[name]) for name in TABLES}
    return replace(
        state,
        **places,
        **tables,
        in_force={**state.in_force, partition: InForce.of_json(content["in_force"])},
        forgotten=(*state.forgotten, *((p, user, hour) for p, user, hour in content["forgotten"])),
    )
