"""Who was exposed to what: accepted events into the state.

Upstream: `observer.py` reads the events. Downstream: `counting.py`, experiment by experiment. What
is computed is said in `schemas/experiments.py`. A user's first exposure can only move back by less
than L (what is older is late), so `recent` has every outcome that it can bring in. Who had an event
left out since the exposure is as if seen in one more variant, EXCLUDED: in no figure, and counted.

Invariants: the state after some offsets is the same however they were batched; state that was
restored knows through which offset each user's row is (`saved`), and events up to there count
once.
"""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import polars as pl

from streamgauge.schemas.experiments import EXCLUDED
from streamgauge.streams.experiments.counting import Counting
from streamgauge.streams.experiments.names import Names
from streamgauge.streams.experiments.observer import Hits, LeftOut, Observer, Shown
from streamgauge.streams.experiments.state import (
    NEVER,
    State,
    first_exposures,
    sums_of,
    through,
)
from streamgauge.streams.experiments.tally import Layout
from streamgauge.streams.metrics.keys import combine, firsts, once, ordering_by
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
    hits, shown, left_out = observer.read(frame, mask, identifiable)
    hits = hits.take(np.flatnonzero(hits.offset > _begun(state, hits, observer)))
    shown = shown.take(np.flatnonzero(shown.offset > _started(state, shown, names)))
    shown = shown.take(_news(state, shown))
    if len(left_out.row) or state.left_out.runs:
        state = _with_left_out(state, left_out)
        shown = _joined(shown, _excluded(state, shown, left_out, observer, names))
    hours, unsaved_hours = _with_hours(state, hits)
    later = replace(
        state,
        people=_with_people(state, frame, hits, shown),
        recent=state.recent.add(
            hits.user, hits.partition, hits.timestamp, hits.slot, hits.value, hits.offset
        ),
        exposed=_with_shown(state.exposed, shown),
        hours=hours,
        unsaved_hours=unsaved_hours,
    )
    for experiment in observer.running:
        counting = Counting(state, experiment, observer, names)
        later = counting.counted(later, hits, shown, replay=replay)
    return later


def _with_shown(exposed: Runs, shown: Shown) -> Runs:
    return exposed.add(
        combine(shown.user, shown.experiment),
        *(shown.partition, shown.experiment, shown.variant, shown.timestamp, shown.user),
    )


def _with_left_out(state: State, rows: LeftOut) -> State:
    left_out = state.left_out.add(rows.user, rows.partition, rows.timestamp, rows.offset)
    return replace(state, left_out=left_out)


def _excluded(
    state: State, shown: Shown, left_out: LeftOut, observer: Observer, names: Names
) -> Shown:
    """Of users of whom an event was left out since they were exposed: the first such event."""
    found = shown.take(np.zeros(0, np.int64))
    excluded = names.number(EXCLUDED)
    exposed = _with_shown(state.exposed, shown)
    for experiment in observer.running:
        number = names.number(experiment.name)
        mine = shown.take(np.flatnonzero(shown.experiment == number))
        user, index = np.unique(np.concatenate([left_out.user, mine.user]), return_index=True)
        row = np.concatenate([left_out.row, mine.row])[index]
        partition = np.concatenate([left_out.partition, mine.partition])[index]
        time, _ = first_exposures(exposed, combine(user, np.full(len(user), number)))
        which, (of, timestamp, offset) = state.left_out.find(user)
        since = [state.in_force[p].running_since[experiment.name] for p in of.tolist()]
        wanted = (timestamp >= time[which]) & (offset > np.array(since, np.int64))
        wanted &= timestamp < (experiment.end or NEVER)
        first = np.full(len(user), NEVER)
        np.minimum.at(first, which[wanted], timestamp[wanted])
        some = np.flatnonzero(first < NEVER)
        new = Shown(
            row=row[some],
            user=user[some],
            partition=partition[some],
            offset=np.full(len(some), NEVER),
            timestamp=first[some],
            experiment=np.full(len(some), number, np.int32),
            variant=np.full(len(some), excluded, np.int32),
        )
        found = _joined(found, new.take(_news(state, new)))
    return found


def _joined(one: Shown, other: Shown) -> Shown:
    if not len(other.row):
        return one
    columns = {
        each.name: np.concatenate([getattr(one, each.name), getattr(other, each.name)])
        for each in fields(Shown)
    }
    return Shown(**columns)


def _begun(state: State, hits: Hits, observer: Observer) -> Array:
    """For each event, since which offset its selection is collected."""
    if not len(hits.row):
        return np.zeros(0, np.int64)
    partitions = np.unique(hits.partition).tolist()
    table = np.full((partitions[-1] + 1, max(observer.slots.values()) + 1), NEVER)
    for partition in partitions:
        since = state.in_force[partition].collected_since
        for name, slot in zip(observer.ids, observer.slots.values(), strict=True):
            table[partition, slot] = since[name]
    return table[hits.partition, hits.slot]


def _started(state: State, shown: Shown, names: Names) -> Array:
    """For each exposure, since which offset its experiment runs."""
    places = zip(shown.partition.tolist(), shown.experiment.tolist(), strict=True)
    found = [state.in_force[p].running_since.get(names[e], NEVER) for p, e in places]
    return np.array(found, np.int64)


def _news(state: State, shown: Shown) -> Array:
    """Exposures to another variant or at an earlier time, each once."""
    key = combine(combine(shown.user, shown.experiment), shown.variant)
    order = ordering_by(key, shown.timestamp)
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
    first = once(user)
    first = first[~state.people.has(user[first])]
    user, row = user[first], row[first]
    texts = np.empty(len(user), object)
    texts[:] = frame["user_key"].gather(row).to_list()
    return state.people.add(user, frame["partition"].to_numpy()[row], texts)


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
            # Of a variant that somebody was in before the restart it must be said that nobody is.
            nobody = {names.number(name): layout.nobody for name in one.definition.weights}
            tallies[number, one.name] = nobody | {
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
