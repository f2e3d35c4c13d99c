"""Who moves: rules over the profiles of a minute, against who was in which segment before.

    watermark  ──┬───────┬───────┬──────────────────>   of a source partition
               10:58   10:59   11:00
                 │       │       └ everybody: time alone may move people
                 └───────┴ whoever had an accepted event in the minute before

Upstream: columns of profiles, a row for each user and minute at which the user is looked at.
Downstream: `outputs.py` writes the moves. Conditions are computed for all rows at once; only what
follows from membership before goes minute by minute.

Who is not in a segment enters when `enter` holds and `leave` does not; who is in it leaves when
`leave` holds. A change of the rules looks at everybody at once, by the segments that it changes,
and says so in the reason.

Invariants: states are never changed in place; moves depend on profiles, minutes and rules, not on
how many rows come at once; a user is in a segment from `entered_at` until `left_at`, half-open.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import polars as pl

from streamgauge.schemas.segments import Rules
from streamgauge.streams.metrics import keys
from streamgauge.streams.segments.conditions import columns_of, holds
from streamgauge.streams.segments.moves import Moves, Pairs
from streamgauge.streams.segments.state import SegmentState, bits_of, masks_of, user_keys

Array = np.ndarray


class Count(NamedTuple):
    """How many are in a segment at a full hour."""

    partition: int
    hour: int
    segment: str
    members: int


def fields_of(rules: Iterable[Rules]) -> list[str]:
    """What profiles must bring beside partition, user_key and minute."""
    return sorted({name for one in rules for segment in one.segments for name in segment.fields})


def evaluate(
    state: SegmentState, profiles: pl.DataFrame, hours: Sequence[tuple[int, int]] = ()
) -> tuple[SegmentState, Moves, list[Count]]:
    """The state after these rows, who moved, and the counts at these (partition, hour).

    Partitions in the rows have rules; the rows of a user may be of several minutes.
    """
    parts = []
    before = state
    for rules, rows in _by_rules(state, profiles):
        state, moved = _evaluated(state, rows, rules, range(len(rules.segments)))
        parts.append(moved)
    moves = Moves.together(parts)
    return state, moves, list(_counts(before, state, moves, hours))


def changed(
    state: SegmentState, profiles: pl.DataFrame, partition: int, rules: Rules
) -> tuple[SegmentState, Moves]:
    """The state with these rules in force, and the moves that the change causes.

    `profiles` has everybody of the partition, once; the minute is the watermark at the change.
    """
    old = state.rules.get(partition, Rules(()))
    places = {segment.name: bit for bit, segment in enumerate(rules.segments)}
    known = {segment.name: segment.version for segment in old.segments}
    news = [bit for bit, one in enumerate(rules.segments) if known.get(one.name) != one.version]
    gone = [bit for bit, one in enumerate(old.segments) if one.name not in places]
    state, left = _evaluated(state, profiles, old, gone, rules.label, only_leave=True)
    mine = masks_of(state, partition)
    mask = np.zeros(len(mine.key), np.int64)
    for bit, segment in enumerate(old.segments):
        if segment.name in places:
            mask |= (mine.columns[1] >> bit & 1) << places[segment.name]
    masks = state.masks.keep(lambda run: run.columns[0] != partition)
    state = replace(
        state,
        masks=masks.add(mine.key, mine.columns[0], mask),
        rules={**state.rules, partition: rules},
    )
    state, moved = _evaluated(state, profiles, rules, news, rules.label)
    return state, Moves.together([left, moved])


def _by_rules(state: SegmentState, profiles: pl.DataFrame) -> Iterator[tuple[Rules, pl.DataFrame]]:
    partitions = profiles["partition"].unique().to_list()
    groups: dict[int, list[int]] = {}
    for partition in partitions:
        groups.setdefault(id(state.rules[partition]), []).append(partition)
    for some in groups.values():
        mine = profiles if len(groups) == 1 else profiles.filter(pl.col("partition").is_in(some))
        yield state.rules[some[0]], mine


def _evaluated(
    state: SegmentState,
    profiles: pl.DataFrame,
    rules: Rules,
    bits: Sequence[int],
    change: str | None = None,
    *,
    only_leave: bool = False,
) -> tuple[SegmentState, Moves]:
    """By the segments of these bits; `only_leave`: those are no more."""
    if not profiles.height or not bits:
        return state, Moves.none()
    enter, leave = _conditions(profiles, rules, bits, only_leave)
    partition = profiles["partition"].to_numpy()
    minute = profiles["minute"].to_numpy()
    key = user_keys(keys.of_strings(profiles["user_key"]), partition)
    order = np.lexsort((minute, key))
    first = keys.firsts(key[order])
    users = key[order][first]
    user = np.empty(len(key), np.int64)  # of each row, its place in `users`
    user[order] = first.cumsum() - 1
    rank = np.empty(len(key), np.int64)  # of each row, the how manieth of the user
    starts = first.nonzero()[0]
    rank[order] = np.arange(len(key)) - starts[first.cumsum() - 1]
    mask = bits_of(state.masks, users)
    began = mask.copy()
    turned = np.zeros(len(key), np.int64)
    for step in range(rank.max() + 1):
        rows = np.arange(len(key)) if len(users) == len(key) else (rank == step).nonzero()[0]
        old = mask[user[rows]]
        new = (old | enter[rows]) & ~leave[rows]
        turned[rows] = old ^ new
        mask[user[rows]] = new
    moved = (turned != 0).nonzero()[0]
    if not len(moved):
        return state, Moves.none()
    # In time order within each user, so that what is entered here can be left here.
    moved = moved[np.lexsort((rank[moved], user[moved]))]
    pairs = Pairs.of(key[moved], minute[moved], turned[moved], enter[moved], rules, bits)
    news = (mask != began).nonzero()[0]
    of = np.empty(len(users), np.int32)
    of[user] = partition
    stays, entered = pairs.stays(state.stays, partition[moved])
    moves = pairs.moves(profiles, moved, entered, change, with_values=not only_leave)
    members = dict(state.members)
    for place, net in moves.net().items():
        members[place] = members.get(place, 0) + net
    masks = state.masks.add(users[news], of[news], mask[news])
    return replace(state, masks=masks, stays=stays, members=members), moves


def _conditions(
    profiles: pl.DataFrame, rules: Rules, bits: Sequence[int], only_leave: bool
) -> tuple[Array, Array]:
    """Of each row: the segments to enter, and to leave."""
    height = profiles.height
    enter, leave = np.zeros(height, np.int64), np.zeros(height, np.int64)
    if only_leave:
        for bit in bits:
            leave |= np.int64(1 << bit)
        return enter, leave
    names = {name for bit in bits for name in rules.segments[bit].fields}
    columns = columns_of(profiles, sorted(names))
    for bit in bits:
        segment = rules.segments[bit]
        enters = holds(segment.enter, columns, height)
        leaves = holds(segment.leave, columns, height) if segment.rule.leave else ~enters
        enter |= enters.astype(np.int64) << bit
        leave |= leaves.astype(np.int64) << bit
    return enter & ~leave, leave


def _counts(
    before: SegmentState,
    after: SegmentState,
    moves: Moves,
    hours: Sequence[tuple[int, int]],
) -> Iterator[Count]:
    """Moves of the hour itself are in its count."""
    for partition, hour in hours:
        by_then = Moves(moves.frame.filter(pl.col("at") <= hour)).net()
        for segment in after.rules[partition].segments:
            place = partition, segment.name
            members = before.members.get(place, 0) + by_then.get(place, 0)
            yield Count(partition, hour, segment.name, members)
