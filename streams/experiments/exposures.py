"""Who was exposed to what, and what they did before and after: the state of one worker.

    recent    user -> events that count, of the last L         for late exposures
    hours     user -> hour, selection, sum                     for covariates
    exposed   (user, experiment) -> variant, first time        of those who were exposed
    sums      (user, experiment) -> outcome or covariate, sum  the same users
    tallies   (partition, experiment) -> variant -> Tally      what goes out

Upstream: `observer.py`. Downstream: `saving.py` writes the changelogs, `tasks.py` the tallies. What
is computed is said in `schemas/experiments.py`. A user's first exposure can only move back by less
than L (what is older is late), so `recent` has every outcome that it can bring in.

Invariants: the state after some offsets is the same however they were batched; state that was
restored knows through which offset each user's row is (`saved`), and events up to there count
once; nothing crosses source partitions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from streamgauge.schemas.experiments import HOUR_MS, Experiment, selection_id
from streamgauge.streams.experiments.in_force import InForce
from streamgauge.streams.experiments.names import Names
from streamgauge.streams.experiments.observer import Hits, Observer, Shown
from streamgauge.streams.experiments.tally import Layout, Tally
from streamgauge.streams.metrics.clock import MINUTE_MS
from streamgauge.streams.metrics.keys import combine, firsts
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
        order = np.lexsort((*(run.columns[column] for column in reversed(same)), run.key))
        run = run.take(order)
        new = np.ones(len(run.key), bool)
        new[1:] = run.key[1:] != run.key[:-1]
        for column in same:
            values = run.columns[column]
            new[1:] |= values[1:] != values[:-1]
        starts = np.flatnonzero(new)
        columns = tuple(
            rules[at].reduceat(values, starts) if at in rules else values[starts]
            for at, values in enumerate(run.columns)
        )
        return Run(key=run.key[starts], columns=columns)

    return fold


# partition, timestamp, slot, value, offset
_RECENT = Runs(dtypes=(np.int32, np.int64, np.int32, np.int64, np.int64))
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
    all_due: frozenset[int] = frozenset()
    """Partitions in which a definition changed: everything unsaved is to be written."""
    tallies: Mapping[tuple[int, str], Mapping[int, Tally]] = field(default_factory=dict)
    changed: frozenset[tuple[int, str]] = frozenset()
    """Whose tallies are to go out."""


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
        **_with_hours(state, hits),
    )
    for experiment in observer.running:
        counting = _Counting(state, experiment, observer, names)
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


def _with_hours(state: State, hits: Hits) -> dict[str, Runs]:
    """Sums by user and hour, of what the changelog's rows do not have."""
    key = combine(hits.user, hits.hour)
    if state.saved_hours.runs:
        new = np.flatnonzero(hits.offset > through(state.saved_hours, key))
        hits, key = hits.take(new), key[new]
    places = (hits.partition, hits.user, hits.hour, hits.offset, hits.timestamp)
    return {
        "hours": state.hours.add(hits.user, hits.partition, hits.hour, hits.slot, hits.value),
        "unsaved_hours": state.unsaved_hours.add(key, *places),
    }


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


class _Counting:
    """Counts a batch for one experiment; `before` is the state without the batch."""

    def __init__(
        self, before: State, experiment: Experiment, observer: Observer, names: Names
    ) -> None:
        self._before = before
        self._name = experiment.name
        self._number = names.number(experiment.name)
        self._names = names
        self._end = experiment.end or NEVER
        self._lookback = 24 * experiment.definition.lookback_days
        self._layout: Layout = observer.layouts[experiment.name]
        self._place = np.full(max(observer.slots.values(), default=0) + 1, -1)
        """Of each slot, where its outcome is among the sums."""
        for place, selection in enumerate(self._layout.selections):
            self._place[observer.slots[selection]] = place

    def counted(self, state: State, hits: Hits, shown: Shown, *, replay: bool) -> State:
        """`state` has the batch, but for sums and tallies."""
        mine = np.flatnonzero(self._place[hits.slot] >= 0)
        exposures = np.flatnonzero(shown.experiment == self._number)
        user = np.concatenate([hits.user[mine], shown.user[exposures]])
        partition = np.concatenate([hits.partition[mine], shown.partition[exposures]])
        user, index = np.unique(user, return_index=True)
        partition = partition[index]
        pair = combine(user, np.full(len(user), self._number))
        time, variant = first_exposures(state.exposed, pair)
        known = np.flatnonzero(time < NEVER)
        if not len(known):
            return state
        user, partition, pair = user[known], partition[known], pair[known]
        time, variant = time[known], variant[known]
        time_before, variant_before = first_exposures(self._before.exposed, pair)
        moved = time != time_before

        sums = sums_of(self._before.sums, pair, self._layout.width)
        more = np.zeros_like(sums)
        at = np.minimum(np.searchsorted(user, hits.user[mine]), len(user) - 1)
        kept = user[at] == hits.user[mine]
        at, hits = at[kept], hits.take(mine[kept])
        counts = self._add_batch(state, hits, at, pair, (time, time_before), more)
        if moved.any():
            self._add_recent(user, np.flatnonzero(moved), (time, time_before), more)
            self._set_covariates(state, user, np.flatnonzero(moved), time, sums, more)

        row, place = np.nonzero(more)
        unsaved = at[counts]
        news = np.flatnonzero(moved | (variant != variant_before))
        exposed_now = (pair[news], partition[news], user[news])
        counted = replace(
            state,
            sums=state.sums.add(
                pair[row],
                partition[row],
                np.full(len(row), self._number, np.int32),
                place.astype(np.int32),
                more[row, place],
            ),
            unsaved_pairs=state.unsaved_pairs.add(
                pair[unsaved],
                partition[unsaved],
                user[unsaved],
                np.full(len(unsaved), self._number),
                hits.offset[counts],
                hits.timestamp[counts],
            ).add(*exposed_now, *np.full((3, len(news)), [[self._number], [-1], [0]])),
        )
        if replay:
            return counted
        return self._tallied(counted, partition, (variant_before, variant), (sums, sums + more))

    def _add_batch(
        self,
        state: State,
        hits: Hits,
        at: Array,
        pair: Array,
        times: tuple[Array, Array],
        more: Array,
    ) -> Array:
        """What the batch itself brings; returns which of the events bring something."""
        time, before = times[0][at], times[1][at]
        new = hits.offset > through(state.saved_pairs, pair)[at]
        # What was counted before comes in only where the exposure moved to before it.
        outcome = (hits.timestamp >= time) & (new | (hits.timestamp < before))
        outcome &= hits.timestamp < self._end
        hour = time // HOUR_MS
        covariate = new & (hits.hour < hour) & (hits.hour >= hour - self._lookback)
        covariate &= time == before  # of those that moved all covariates are looked up
        place = self._place[hits.slot]
        np.add.at(more, (at[outcome], place[outcome]), hits.value[outcome])
        beside = place[covariate] + len(self._layout.selections)
        np.add.at(more, (at[covariate], beside), hits.value[covariate])
        return np.flatnonzero(outcome | covariate)

    def _add_recent(
        self, user: Array, moved: Array, times: tuple[Array, Array], more: Array
    ) -> None:
        """Outcomes that came before an exposure that is earlier than them."""
        which, (_, timestamp, slot, value, _) = self._before.recent.find(user[moved])
        at = moved[which]
        place = self._place_of(slot)
        in_time = (timestamp >= times[0][at]) & (timestamp < times[1][at])
        wanted = in_time & (timestamp < self._end) & (place >= 0)
        np.add.at(more, (at[wanted], place[wanted]), value[wanted])

    def _set_covariates(
        self, state: State, user: Array, moved: Array, time: Array, sums: Array, more: Array
    ) -> None:
        """Covariates before another exposure than they were before."""
        covariates = slice(len(self._layout.selections), None)
        more[moved, covariates] = -sums[moved, covariates]
        which, (_, hour, slot, value) = state.hours.find(user[moved])
        at = moved[which]
        until = time[at] // HOUR_MS
        place = self._place_of(slot)
        wanted = (hour < until) & (hour >= until - self._lookback) & (place >= 0)
        beside = place[wanted] + len(self._layout.selections)
        np.add.at(more, (at[wanted], beside), value[wanted])

    def _place_of(self, slot: Array) -> Array:
        """Of slots that others may have asked for."""
        known = slot < len(self._place)
        return np.where(known, self._place[np.where(known, slot, 0)], -1)

    def _tallied(
        self,
        state: State,
        partition: Array,
        variants: tuple[Array, Array],
        sums: tuple[Array, Array],
    ) -> State:
        """With the users as they are now in place of what they were."""
        tallies = dict(state.tallies)
        changed = set(state.changed)
        for number in np.unique(partition).tolist():
            mine = partition == number
            of = dict(tallies.get((number, self._name), {}))
            for variant, lines, sign in zip(variants, sums, (-1, 1), strict=True):
                for each in np.unique(variant[mine]).tolist():
                    if each == NOBODY:
                        continue
                    tally = self._layout.tally(lines[mine & (variant == each)])
                    old = of.get(each) or Tally.none(len(self._layout.columns))
                    of[each] = old + tally if sign > 0 else old - tally
            tallies[number, self._name] = of
            changed.add((number, self._name))
        return replace(state, tallies=tallies, changed=frozenset(changed))


def retold(state: State, partitions: set[int], names: Names) -> State:
    """With the tallies of these partitions made anew."""
    tallies = {place: of for place, of in state.tallies.items() if place[0] not in partitions}
    changed = set(state.changed)
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


def controlled(state: State, partition: int, in_force: InForce, names: Names) -> State:
    """With other definitions in a partition; what is of stopped experiments goes."""
    old = state.in_force.get(partition, InForce())
    active = [names.number(one.name) for one in in_force.active]
    slots = [names.number(name) for name in in_force.collected_since]

    def stays(run: Run, column: int, wanted: list[int]) -> Array:
        return (run.columns[0] != partition) | np.isin(run.columns[column], wanted)

    told = set(in_force.experiments) | set(old.experiments)
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
    if not (state.recent.runs or state.hours.runs):
        return state
    size = max(state.watermarks) + 1
    floor, first_hour = np.full(size, -NEVER), np.full(size, -NEVER)
    for partition, watermark in state.watermarks.items():
        floor[partition] = watermark - lateness
        lookback = state.in_force.get(partition, InForce()).lookback_hours
        first_hour[partition] = (watermark - lateness) // HOUR_MS - lookback
    state = _with_hours_only(state, lambda run: run.columns[1] >= first_hour[run.columns[0]])
    users = [run.columns[4] for run in state.exposed.runs] + [r.key for r in state.hours.runs]
    alive = np.unique(np.concatenate([np.zeros(0, np.uint64), *users]))
    return replace(
        state,
        recent=state.recent.keep(lambda run: run.columns[1] >= floor[run.columns[0]]),
        people=state.people.keep(lambda run: np.isin(run.key, alive)),
    )


def _with_hours_only(state: State, stays: Callable[[Run], Array]) -> State:
    """Hours that go completely go from the changelog as well."""
    gone = state.hours.where(lambda run: ~stays(run))
    if not len(gone.key):
        return state
    kept = state.hours.keep(stays)
    left = np.unique(
        np.concatenate([np.zeros(0, np.uint64), *(combine(r.key, r.columns[1]) for r in kept.runs)])
    )
    place, index = np.unique(combine(gone.key, gone.columns[1]), return_index=True)
    index = index[~np.isin(place, left)]
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

    tables = ("recent", "hours", "exposed", "sums", "people", "unsaved_hours", "unsaved_pairs")
    maps = ("in_force", "watermarks", "positions", "pruned")
    return replace(
        state,
        **{name: getattr(state, name).keep(others) for name in tables},
        saved_hours=state.saved_hours.keep(others),
        saved_pairs=state.saved_pairs.keep(others),
        **{
            name: {p: it for p, it in getattr(state, name).items() if p not in partitions}
            for name in maps
        },
        forgotten=tuple(one for one in state.forgotten if one[0] not in partitions),
        all_due=state.all_due - partitions,
        tallies={p: it for p, it in state.tallies.items() if p[0] not in partitions},
        changed=frozenset(place for place in state.changed if place[0] not in partitions),
    )


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
