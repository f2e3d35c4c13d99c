"""The state's changelogs: rows to write at a barrier.

Upstream: `exposures.py`. Downstream: `tasks.py` encodes them for `exposures` and
`experiment-history`. A new exposure is written at once, everything else as late as the horizon
allows: when an event would not be read again after a restart.

Invariant: rows are absolute and say through which offset they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from streamgauge.schemas.experiments import selection_id
from streamgauge.streams.experiments.in_force import InForce
from streamgauge.streams.experiments.names import Names
from streamgauge.streams.experiments.state import (
    NEVER,
    State,
    first_exposures,
    sums_of,
)
from streamgauge.streams.experiments.tally import Layout
from streamgauge.streams.metrics.keys import among, combine, distinct
from streamgauge.streams.metrics.runs import Run, Runs

Array = np.ndarray


@dataclass(frozen=True, kw_only=True)
class Rows:
    """To be written."""

    exposures: list[tuple[int, dict[str, Any]]]
    """Source partition and fields."""
    hours: list[tuple[int, dict[str, Any]]]
    definitions: list[tuple[int, dict[str, Any]]]
    forgotten: list[tuple[int, str, int]]
    """Source partition, user and hour."""


def flush(
    state: State, horizons: Mapping[int, tuple[int, int]], names: Names
) -> tuple[State, Rows]:
    """What is due; `horizons` are offset and timestamp by partition."""
    size = max([*horizons, *state.positions, *state.in_force], default=0) + 1
    offset, time = np.full(size, 0), np.full(size, -NEVER)
    for partition, horizon in horizons.items():
        offset[partition], time[partition] = horizon
    for partition in state.all_due:
        offset[partition] = NEVER

    def due(run: Run) -> Array:
        partition = run.columns[0]
        return (run.columns[3] < offset[partition]) | (run.columns[4] <= time[partition])

    pairs, hours = state.unsaved_pairs.where(due), state.unsaved_hours.where(due)
    definitions = [
        (
            partition,
            {
                "sums": state.in_force[partition].to_json(),
                "emitted_offset": state.positions.get(partition, -1),
            },
        )
        for partition in sorted(state.all_due)
    ]
    rows = Rows(
        exposures=[*state.ended, *_exposures(state, pairs, names)],
        hours=list(_hours(state, hours, names)),
        definitions=definitions,
        forgotten=list(state.forgotten),
    )
    state = replace(
        state,
        unsaved_pairs=_but(state.unsaved_pairs, pairs.key),
        unsaved_hours=_but(state.unsaved_hours, hours.key),
        forgotten=(),
        ended=(),
        all_due=frozenset(),
    )
    return state, rows


def ending(state: State, partition: int, in_force: InForce, names: Names) -> State:
    """With the rows of experiments that are about to end in a partition."""
    known = state.in_force.get(partition, InForce())
    going = {one.name for one in known.active} - {one.name for one in in_force.active}
    if not going:
        return state
    numbers = [names.number(name) for name in going]
    pairs = state.unsaved_pairs.where(
        lambda run: (run.columns[0] == partition) & np.isin(run.columns[2], numbers)
    )
    return replace(state, ended=(*state.ended, *_exposures(state, pairs, names)))


def _but(unsaved: Runs, written: Array) -> Runs:
    """A row has all events of its key, so none of them is left."""
    if not len(written):
        return unsaved
    known = distinct(written)
    return unsaved.keep(lambda run: ~among(run.key, known))


def _names_of(state: State, users: Array) -> list[str | None]:
    found = np.empty(len(users), object)
    which, (_, name) = state.people.find(users)
    found[which] = name
    return found.tolist()


def _exposures(state: State, unsaved: Run, names: Names) -> Iterable[tuple[int, dict[str, Any]]]:
    pair, index = np.unique(unsaved.key, return_index=True)
    partition, user, number = (unsaved.columns[column][index] for column in range(3))
    time, variant = first_exposures(state.exposed, pair)
    which, (_, _, shown, at, _) = state.exposed.find(pair)
    variants: list[dict[str, int]] = [{} for _ in pair]
    for place, of, first in zip(which.tolist(), shown.tolist(), at.tolist(), strict=True):
        known = variants[place].get(names[of], NEVER)
        variants[place][names[of]] = min(known, first)
    people = _names_of(state, user)
    for each in np.unique(number).tolist():
        mine = np.flatnonzero(number == each)
        name = names[each]
        for source in np.unique(partition[mine]).tolist():
            places = mine[partition[mine] == source]
            experiment = state.in_force[source].experiments[name]
            layout = Layout.of(experiment.definition)
            ids = [selection_id(selection) for selection in layout.selections]
            sums = sums_of(state.sums, pair[places], layout.width).tolist()
            for place, line in zip(places.tolist(), sums, strict=True):
                of = variant[place]
                yield (
                    source,
                    {
                        "experiment": name,
                        "user_id": people[place],
                        "variant": names[of] if of >= 0 else None,
                        "exposed_at": int(time[place]),
                        "variants": json.dumps(variants[place], sort_keys=True, ensure_ascii=False),
                        "sums": json.dumps(
                            {
                                id: [outcome, covariate]
                                for id, outcome, covariate in zip(
                                    ids, line, line[len(ids) :], strict=False
                                )
                                if outcome or covariate
                            }
                        ),
                        "emitted_offset": state.positions.get(source, -1),
                    },
                )


def _hours(state: State, unsaved: Run, names: Names) -> Iterable[tuple[int, dict[str, Any]]]:
    wanted, index = np.unique(unsaved.key, return_index=True)
    if not len(wanted):
        return
    user = np.unique(unsaved.columns[1][index])
    which, (_, hour, slot, value) = state.hours.find(user)
    key = combine(user[which], hour)
    at = np.minimum(np.searchsorted(wanted, key), len(wanted) - 1)
    kept = np.flatnonzero(wanted[at] == key)
    found: dict[int, dict[int, int]] = {}
    places = (at[kept].tolist(), slot[kept].tolist(), value[kept].tolist())
    for place, of, amount in zip(*places, strict=True):
        sums = found.setdefault(place, {})
        sums[of] = sums.get(of, 0) + amount
    sources = unsaved.columns[0][index].tolist()
    people = _names_of(state, unsaved.columns[1][index])
    hours = unsaved.columns[2][index].tolist()
    for place, sums in found.items():
        since = state.in_force[sources[place]].collected_since
        told = {names[of]: [amount, since[names[of]]] for of, amount in sums.items()}
        yield (
            sources[place],
            {
                "user_id": people[place],
                "hour": hours[place],
                "sums": json.dumps(told),
                "emitted_offset": state.positions[sources[place]],
            },
        )
