"""What one worker knows of experiments: tables that never change in place.

    recent    user -> events that count, of the last L         for late exposures
    hours     user -> hour, selection, sum                     for covariates
    left_out  user -> events that do not count, of the last L  likewise
    exposed   (user, experiment) -> variant, first time        of those who were exposed
    sums      (user, experiment) -> outcome or covariate, sum  the same users
    tallies   (partition, experiment) -> variant -> Tally      what goes out

Upstream: `exposures.py` and `counting.py` advance it. Downstream: `saving.py`, `snapshots.py`,
`outputs.py`. Here too is what goes: with definitions, with time, with partitions.

Invariants: nothing crosses source partitions; keys are hashes, of users per source partition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from streamgauge.schemas.experiments import HOUR_MS
from streamgauge.streams.experiments.in_force import InForce
from streamgauge.streams.experiments.names import Names
from streamgauge.streams.experiments.tally import Tally
from streamgauge.streams.metrics.clock import MINUTE_MS
from streamgauge.streams.metrics.keys import among, combine, union
from streamgauge.streams.metrics.runs import Run, Runs

Array = np.ndarray

NEVER = 2**62
NOBODY, SEVERAL = -1, -2
"""In place of a variant."""


def folding(same: tuple[int, ...], **how: tuple[int, ...]) -> Callable[[Run], Run]:
    """A fold: one row for each key and these columns; `how` names what becomes of others."""
    rules = {column: getattr(np, name) for name, columns in how.items() for column in columns}

    def fold(run: Run) -> Run:
        if len(run.key) < 2:
            return run
        if same:  # by key it is sorted
            order = np.lexsort((*(run.columns[column] for column in reversed(same)), run.key))
            run = run.take(order)
        new = np.ones(len(run.key), bool)
        new[1:] = run.key[1:] != run.key[:-1]
        for column in same:
            values = run.columns[column]
            new[1:] |= values[1:] != values[:-1]
        if new.all():
            return run
        starts = np.flatnonzero(new)
        columns = tuple(
            rules[at].reduceat(values, starts) if at in rules else values[starts]
            for at, values in enumerate(run.columns)
        )
        return Run(key=run.key[starts], columns=columns)

    return fold


TABLES = (
    *("recent", "left_out", "hours", "exposed", "sums", "people"),
    *("unsaved_hours", "unsaved_pairs"),
)
PLACES = ("watermarks", "positions", "pruned")
"""What a state has of each partition."""

# partition, timestamp, slot, value, offset
_RECENT = Runs(dtypes=(np.int32, np.int64, np.int32, np.int64, np.int64))
# partition, timestamp, offset
_LEFT_OUT = Runs(dtypes=(np.int32, np.int64, np.int64))
# partition, hour, slot, value
_HOURS = Runs(dtypes=(np.int32, np.int64, np.int32, np.int64), fold=folding((1, 2), add=(3,)))
# partition, experiment, variant, timestamp, user
_EXPOSED = Runs(
    dtypes=(np.int32, np.int32, np.int32, np.int64, np.uint64), fold=folding((2,), minimum=(3,))
)
# partition, experiment, which sum, value
_SUMS = Runs(dtypes=(np.int32, np.int32, np.int32, np.int64), fold=folding((2,), add=(3,)))
# partition, user, hour or experiment, offset, timestamp
_UNSAVED = Runs(
    dtypes=(np.int32, np.uint64, np.int64, np.int64, np.int64), fold=folding((), minimum=(3, 4))
)
# partition, name
_PEOPLE = Runs(dtypes=(np.int32, object), fold=folding(()))
# partition, offset
_SAVED = Runs(dtypes=(np.int32, np.int64), fold=folding((), maximum=(1,)))


@dataclass(frozen=True, kw_only=True)
class State:
    """Everything that is known; never changed in place."""

    in_force: Mapping[int, InForce] = field(default_factory=dict)
    watermarks: Mapping[int, int] = field(default_factory=dict)
    positions: Mapping[int, int] = field(default_factory=dict)
    """The last offset that was read, by partition."""
    pruned: Mapping[int, int] = field(default_factory=dict)
    recent: Runs = _RECENT
    left_out: Runs = _LEFT_OUT
    hours: Runs = _HOURS
    exposed: Runs = _EXPOSED
    sums: Runs = _SUMS
    people: Runs = _PEOPLE
    unsaved_hours: Runs = _UNSAVED
    """By user and hour: the first event that is not in the changelog yet."""
    unsaved_pairs: Runs = _UNSAVED
    """By user and experiment."""
    saved_hours: Runs = _SAVED
    """While partitions are restored: through which offset their rows are."""
    saved_pairs: Runs = _SAVED
    forgotten: tuple[tuple[int, str, int], ...] = ()
    """Rows to delete from the changelog: partition, user, hour."""
    ended: tuple[tuple[int, dict[str, Any]], ...] = ()
    """Rows of exposures that were unsaved when their experiment was stopped, by partition."""
    all_due: frozenset[int] = frozenset()
    """Partitions in which a definition changed: everything unsaved is to be written."""
    tallies: Mapping[tuple[int, str], Mapping[int, Tally]] = field(default_factory=dict)
    changed: frozenset[tuple[int, str]] = frozenset()
    """Whose tallies are to go out."""


def through(saved: Runs, keys: Array) -> Array:
    """The offset through which the row of each key is; -1 where there is none."""
    offsets = np.full(len(keys), -1)
    which, (_, offset) = saved.find(keys)
    np.maximum.at(offsets, which, offset)
    return offsets


def first_exposures(exposed: Runs, pairs: Array) -> tuple[Array, Array]:
    """Of each pair of user and experiment: when first, and to which variant."""
    time = np.full(len(pairs), NEVER)
    least, greatest = np.full(len(pairs), NEVER), np.full(len(pairs), NOBODY)
    which, (_, _, variant, timestamp, _) = exposed.find(pairs)
    np.minimum.at(time, which, timestamp)
    np.minimum.at(least, which, variant)
    np.maximum.at(greatest, which, variant)
    return time, np.where((greatest == NOBODY) | (least == greatest), greatest, SEVERAL)


def sums_of(sums: Runs, pairs: Array, width: int) -> Array:
    """A line for each pair."""
    found = np.zeros((len(pairs), width), np.int64)
    which, (_, _, place, value) = sums.find(pairs)
    np.add.at(found, (which, place), value)
    return found


def controlled(state: State, partition: int, in_force: InForce, names: Names) -> State:
    """With other definitions in a partition; what is of stopped experiments goes."""
    old = state.in_force.get(partition, InForce())
    active = [names.number(one.name) for one in in_force.active]
    slots = [names.number(name) for name in in_force.collected_since]

    def stays(run: Run, column: int, wanted: list[int]) -> Array:
        return (run.columns[0] != partition) | np.isin(run.columns[column], wanted)

    # Of others nothing is told again: tallies of those that ended are gone after a restart.
    told = {
        name for name, one in in_force.experiments.items() if one is not old.experiments.get(name)
    }
    state = _with_hours_only(state, lambda run: stays(run, 2, slots))
    return replace(
        state,
        in_force={**state.in_force, partition: in_force},
        exposed=state.exposed.keep(lambda run: stays(run, 1, active)),
        sums=state.sums.keep(lambda run: stays(run, 1, active)),
        unsaved_pairs=state.unsaved_pairs.keep(lambda run: stays(run, 2, active)),
        recent=state.recent.keep(lambda run: stays(run, 2, slots)),
        all_due=state.all_due | {partition},
        changed=state.changed | {(partition, name) for name in told},
    )


def pruned(state: State, lateness: int) -> State:
    """Without what is too old to matter; now and then, for it takes a look at everything."""
    step = max(lateness // 8, MINUTE_MS)
    due = [p for p, w in state.watermarks.items() if w >= state.pruned.get(p, -NEVER) + step]
    if not due:
        return state
    state = replace(state, pruned={**state.pruned, **{p: state.watermarks[p] for p in due}})
    if not (state.recent.runs or state.hours.runs or state.left_out.runs):
        return state
    size = max(state.watermarks) + 1
    floor, first_hour = np.full(size, -NEVER), np.full(size, -NEVER)
    for partition, watermark in state.watermarks.items():
        floor[partition] = watermark - lateness
        lookback = state.in_force.get(partition, InForce()).lookback_hours
        first_hour[partition] = (watermark - lateness) // HOUR_MS - lookback
    hours = state.hours
    state = _with_hours_only(
        state, lambda run: run.columns[1] >= first_hour[run.columns[0]], whole=True
    )
    if state.hours is not hours:  # nobody else can have become one whom nothing is known of
        exposed = union(*(run.columns[4] for run in state.exposed.runs))
        state = replace(
            state,
            people=state.people.keep(
                lambda run: state.hours.has(run.key) | among(run.key, exposed)
            ),
        )
    return replace(
        state,
        recent=state.recent.keep(lambda run: run.columns[1] >= floor[run.columns[0]]),
        left_out=state.left_out.keep(lambda run: run.columns[1] >= floor[run.columns[0]]),
    )


def _with_hours_only(state: State, stays: Callable[[Run], Array], *, whole: bool = False) -> State:
    """Hours that go completely go from the changelog as well; `whole`: none goes in part."""
    gone = state.hours.where(lambda run: ~stays(run))
    if not len(gone.key):
        return state
    kept = state.hours.keep(stays)
    place, index = np.unique(combine(gone.key, gone.columns[1]), return_index=True)
    if not whole:
        left = (combine(run.key, run.columns[1]) for run in kept.runs)
        index = index[~among(place, union(*left))]
    index.sort()  # nearly the order of the users, whose names are found faster so
    which, (_, name) = state.people.find(gone.key[index])
    index = index[which]
    forgotten = zip(
        gone.columns[0][index].tolist(),
        name.tolist(),
        gone.columns[1][index].tolist(),
        strict=True,
    )
    return replace(state, hours=kept, forgotten=(*state.forgotten, *forgotten))


def without(state: State, partitions: set[int]) -> State:
    """Without these partitions."""
    wanted = list(partitions)

    def others(run: Run) -> Array:
        return ~np.isin(run.columns[0], wanted)

    tables: dict[str, Any] = {name: getattr(state, name).keep(others) for name in TABLES}
    places: dict[str, Any] = {
        name: {p: it for p, it in getattr(state, name).items() if p not in partitions}
        for name in ("in_force", *PLACES)
    }
    return replace(
        state,
        **tables,
        **places,
        saved_hours=state.saved_hours.keep(others),
        saved_pairs=state.saved_pairs.keep(others),
        forgotten=tuple(one for one in state.forgotten if one[0] not in partitions),
        ended=tuple(one for one in state.ended if one[0] not in partitions),
        all_due=state.all_due - partitions,
        tallies={p: it for p, it in state.tallies.items() if p[0] not in partitions},
        changed=frozenset(place for place in state.changed if place[0] not in partitions),
    )
