"""The state from the rows of its changelogs.

Upstream: the last row of each key of `exposures` and `experiment-history`. Downstream: `branch.py`,
which replays the events that no row has. Invariant: rows of experiments and selections that are not
in force, or were collected before they were asked for again, are left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from streamgauge.schemas.experiments import selection_id
from streamgauge.streams.experiments.in_force import InForce
from streamgauge.streams.experiments.names import Names
from streamgauge.streams.experiments.state import State
from streamgauge.streams.experiments.tally import Layout
from streamgauge.streams.metrics.keys import combine, of_strings

Array = np.ndarray


def restored(
    state: State,
    partition: int,
    exposures: Sequence[Mapping[str, Any]],
    history: Sequence[Mapping[str, Any]],
    names: Names,
) -> State:
    """With the last rows of the changelogs of a partition."""
    in_force = InForce()
    for row in history:
        if row["user_id"] is None:
            in_force = InForce.of_json(row["sums"])
    state = replace(state, in_force={**state.in_force, partition: in_force})
    state = _with_history(state, partition, [r for r in history if r["user_id"] is not None], names)
    return _with_exposures(state, partition, exposures, names)


def _with_history(
    state: State, partition: int, rows: Sequence[Mapping[str, Any]], names: Names
) -> State:
    collected = state.in_force[partition].collected_since
    user = _users([row["user_id"] for row in rows], partition)
    hour = np.array([row["hour"] for row in rows], np.int64)
    saved = np.array([row["emitted_offset"] for row in rows], np.int64)
    told = [
        (line, row["hour"], names.number(id), amount)
        for line, row in enumerate(rows)
        for id, (amount, since) in json.loads(row["sums"]).items()
        if collected.get(id) == since
    ]
    table = np.array(told, np.int64).reshape(-1, 4)
    line = table[:, 0]
    return replace(
        _with_people(state, partition, user, [row["user_id"] for row in rows]),
        hours=state.hours.add(
            user[line],
            np.full(len(line), partition, np.int32),
            table[:, 1],
            table[:, 2].astype(np.int32),
            table[:, 3],
        ),
        saved_hours=state.saved_hours.add(
            combine(user, hour), np.full(len(user), partition, np.int32), saved
        ),
    )


def _with_exposures(
    state: State, partition: int, rows: Sequence[Mapping[str, Any]], names: Names
) -> State:
    """Those of experiments that are in force."""
    active = {one.name: Layout.of(one.definition) for one in state.in_force[partition].active}
    rows = [row for row in rows if row["experiment"] in active]
    places = {
        name: {selection_id(s): place for place, s in enumerate(layout.selections)}
        for name, layout in active.items()
    }
    user = _users([row["user_id"] for row in rows], partition)
    experiment = np.array([names.number(row["experiment"]) for row in rows], np.int32)
    pair = combine(user, experiment)
    saved = np.array([row["emitted_offset"] for row in rows], np.int64)
    variants, sums = [], []
    for line, row in enumerate(rows):
        for name, time in json.loads(row["variants"]).items():
            variants.append((line, names.number(name), time))
        place = places[row["experiment"]]
        for id, (outcome, covariate) in json.loads(row["sums"]).items():
            if id in place:
                sums.append((line, place[id], outcome))
                sums.append((line, place[id] + len(place), covariate))
    shown = np.array(variants, np.int64).reshape(-1, 3)
    added = np.array(sums, np.int64).reshape(-1, 3)

    def here(rows: Array) -> Array:
        return np.full(len(rows), partition, np.int32)

    return replace(
        _with_people(state, partition, user, [row["user_id"] for row in rows]),
        exposed=state.exposed.add(
            pair[shown[:, 0]],
            here(shown),
            experiment[shown[:, 0]],
            shown[:, 1].astype(np.int32),
            shown[:, 2],
            user[shown[:, 0]],
        ),
        sums=state.sums.add(
            pair[added[:, 0]],
            here(added),
            experiment[added[:, 0]],
            added[:, 1].astype(np.int32),
            added[:, 2],
        ),
        saved_pairs=state.saved_pairs.add(pair, here(pair), saved),
    )


def _users(names: list[str], partition: int) -> Array:
    hashes = of_strings(pl.Series(names, dtype=pl.String))
    return combine(hashes, np.full(len(names), partition))


def _with_people(state: State, partition: int, user: Array, names: list[str]) -> State:
    texts = np.empty(len(names), object)
    texts[:] = names
    return replace(
        state, people=state.people.add(user, np.full(len(user), partition, np.int32), texts)
    )
