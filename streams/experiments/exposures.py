"""Who was exposed to what: accepted events into the state.

Upstream: `observer.py` reads the events. Downstream: `counting.py`, experiment by experiment. What
is computed is said in `schemas/experiments.py`. A user's first exposure can only move back by less
than L (what is older is late), so `recent` has every outcome that it can bring in.

Invariants: the state after some offsets is the same however they were batched; state that was
restored knows through which offset each user's row is (`saved`), and events up to there count
once.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl

from streamgauge.schemas.experiments import selection_id
from streamgauge.streams.experiments.counting import Counting
from streamgauge.streams.experiments.names import Names
from streamgauge.streams.experiments.observer import Hits, Observer, Shown
from streamgauge.streams.experiments.state import (
    NEVER,
    State,
    first_exposures,
    sums_of,
    through,
)
from streamgauge.streams.experiments.tally import Layout
from streamgauge.streams.metrics.keys import combine, firsts
from streamgauge.streams.metrics.runs import Run, Runs

Array = np.ndarray


def observed(
    state: State,
    frame: pl.DataFrame,
    observer: Observer,
    names: Names,
    identifiable: pl.Expr,
    *,
    wanted: Array | None = None,
    replay: bool = False,
) -> State:
    """With accepted events that came while these experiments were in force.

    `replay`: tallies are left alone, to be made anew from all there is (`retold`).
    """
    mask = np.ones(frame.height, bool) if wanted is None else wanted
    hits, shown = observer.read(frame, mask, identifiable)
    hits = hits.take(np.flatnonzero(hits.offset > _begun(state, hits, observer)))
    shown = shown.take(np.flatnonzero(shown.offset > _started(state, shown, names)))
    shown = shown.take(_news(state, shown))
    hours, unsaved_hours = _with_hours(state, hits)
    later = replace(
        state,
        people=_with_people(state, frame, hits, shown),
        recent=state.recent.add(
            hits.user, hits.partition, hits.timestamp, hits.slot, hits.value, hits.offset
        ),
        exposed=state.exposed.add(
            combine(shown.user, shown.experiment),
            *(shown.partition, shown.experiment, shown.variant, shown.timestamp, shown.user),
        ),
        hours=hours,
        unsaved_hours=unsaved_hours,
    )
    for experiment in observer.running:
        counting = Counting(state, experiment, observer, names)
        later = counting.counted(later, hits, shown, replay=replay)
    return later


def _begun(state: State, hits: Hits, observer: Observer) -> Array:
    """For each event, since which offset its selection is collected."""
    if not len(hits.row):
        return np.zeros(0, np.int64)
    partitions = np.unique(hits.partition).tolist()
    table = np.full((partitions[-1] + 1, max(observer.slots.values()) + 1), NEVER)
    for partition in partitions:
        since = state.in_force[partition].collected_since
        for selection, slot in observer.slots.items():
            table[partition, slot] = since[selection_id(selection)]
    return table[hits.partition, hits.slot]


def _started(state: State, shown: Shown, names: Names) -> Array:
    """For each exposure, since which offset its experiment runs."""
    places = zip(shown.partition.tolist(), shown.experiment.tolist(), strict=True)
    found = [state.in_force[p].running_since.get(names[e], NEVER) for p, e in places]
    return np.array(found, np.int64)


def _news(state: State, shown: Shown) -> Array:
    """Exposures to another variant or at an earlier time, each once."""
    key = combine(combine(shown.user, shown.experiment), shown.variant)
    order = np.lexsort((shown.timestamp, key))
    first = order[firsts(key[order])] if len(order) else order
    pair = combine(shown.user[first], shown.experiment[first])
    known = np.full(len(first), NEVER)
    which, (_, _, variant, timestamp, _) = state.exposed.find(pair)
    same = variant == shown.variant[first][which]
    np.minimum.at(known, which[same], timestamp[same])
    return first[shown.timestamp[first] < known]


def _with_people(state: State, frame: pl.DataFrame, hits: Hits, shown: Shown) -> Runs:
    """With the names of users who are new."""
    user = np.concatenate([hits.user, shown.user])
    row = np.concatenate([hits.row, shown.row])
    user, first = np.unique(user, return_index=True)
    new = np.flatnonzero(~state.people.has(user))
    row = row[first[new]]
    texts = np.empty(len(new), object)
    texts[:] = frame["user_key"].gather(row).to_list()
    return state.people.add(user[new], frame["partition"].to_numpy()[row], texts)


def _with_hours(state: State, hits: Hits) -> tuple[Runs, Runs]:
    """Sums by user and hour, of what the changelog's rows do not have."""
    key = combine(hits.user, hits.hour)
    if state.saved_hours.runs:
        new = np.flatnonzero(hits.offset > through(state.saved_hours, key))
        hits, key = hits.take(new), key[new]
    places = (hits.partition, hits.user, hits.hour, hits.offset, hits.timestamp)
    return (
        state.hours.add(hits.user, hits.partition, hits.hour, hits.slot, hits.value),
        state.unsaved_hours.add(key, *places),
    )


def retold(state: State, partitions: set[int], names: Names) -> State:
    """With the tallies of these partitions made anew.

    Those of experiments that were stopped went out with the marker, and stay as they are.
    """
    tallies = {place: of for place, of in state.tallies.items() if place[0] not in partitions}
    changed = {place for place in state.changed if place[0] not in partitions}
    wanted = list(partitions)
    exposed = state.exposed.where(lambda run: np.isin(run.columns[0], wanted))
    _, pairs = np.unique(exposed.key, return_index=True)
    pair, partition = exposed.key[pairs], exposed.columns[0][pairs]
    experiment = exposed.columns[1][pairs]
    _, variant = first_exposures(state.exposed, pair)
    for number in partitions:
        for one in state.in_force[number].experiments.values() if number in state.in_force else ():
            if one.state == "stopped":
                continue
            layout = Layout.of(one.definition)
            mine = (partition == number) & (experiment == names.number(one.name))
            sums = sums_of(state.sums, pair[mine], layout.width)
            tallies[number, one.name] = {
                each: layout.tally(sums[variant[mine] == each])
                for each in np.unique(variant[mine]).tolist()
            }
            changed.add((number, one.name))
    return replace(state, tallies=tallies, changed=frozenset(changed))


def restored(state: State, partitions: set[int], names: Names) -> State:
    """Once everything of these partitions has been handed over."""
    wanted = list(partitions)

    def others(run: Run) -> Array:
        return ~np.isin(run.columns[0], wanted)

    state = replace(
        state,
        saved_hours=state.saved_hours.keep(others),
        saved_pairs=state.saved_pairs.keep(others),
    )
    return retold(state, partitions, names)
