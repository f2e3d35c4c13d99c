"""What users did before and after an exposure: a batch, counted for one experiment.

Upstream: `exposures.py`. Downstream: sums by user, and the tallies of all. Invariant: a tally is
that of the users as they are: what a user was before the batch is taken away first.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from streamgauge.schemas.experiments import HOUR_MS, Experiment
from streamgauge.streams.experiments.names import Names
from streamgauge.streams.experiments.observer import Hits, Observer, Shown
from streamgauge.streams.experiments.state import (
    NEVER,
    NOBODY,
    State,
    first_exposures,
    sums_of,
    through,
)
from streamgauge.streams.experiments.tally import Layout
from streamgauge.streams.metrics.keys import among, combine, distinct, once

Array = np.ndarray


class Counting:
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
        index = once(user)
        user, partition = user[index], partition[index]
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
        news = np.flatnonzero(among(user, distinct(shown.user[exposures])))
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
                    old = of.get(each) or self._layout.nobody
                    of[each] = old + tally if sign > 0 else old - tally
            tallies[number, self._name] = of
            changed.add((number, self._name))
        return replace(state, tallies=tallies, changed=frozenset(changed))
