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

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import NamedTuple

import numpy as np
import polars as pl

from streamgauge.schemas.segments import Rules, Segment
from streamgauge.streams.metrics import keys
from streamgauge.streams.metrics.runs import Run, Runs
from streamgauge.streams.segments.conditions import columns_of, holds

Array = np.ndarray

HOUR_MS = 3_600_000
GONE = -1
"""In place of `entered_at` of who is not in the segment."""

PLACE = ("partition", "user_key", "minute")
"""What a row of profiles has beside the fields that `fields_of` names."""


def _latest(run: Run) -> Run:
    last = np.ones(len(run.key), bool)
    np.not_equal(run.key[1:], run.key[:-1], out=last[:-1])
    return run if last.all() else run.take(last.nonzero()[0])


NO_MASKS = Runs(dtypes=(np.int32, np.int64), fold=_latest)
"""By user: partition, and a bit for each segment in the order of the partition's rules."""

NO_STAYS = Runs(dtypes=(np.int32, np.int64), fold=_latest)
"""By user and segment: partition, entered_at or GONE."""


class Move(NamedTuple):
    """Somebody enters a segment or leaves it."""

    partition: int
    at: int
    user_id: str
    segment: str
    entered_at: int
    is_member: bool
    reason: str
    """JSON: the values of the fields in the rule; `change` where the rule's change caused it."""
    rule_version: str


class Count(NamedTuple):
    """How many are in a segment at a full hour."""

    partition: int
    hour: int
    segment: str
    members: int


@dataclass(frozen=True, kw_only=True)
class SegmentState:
    """Who is in which segment."""

    masks: Runs = NO_MASKS
    stays: Runs = NO_STAYS
    rules: Mapping[int, Rules] = field(default_factory=dict)
    """In force, by source partition."""
    members: Mapping[tuple[int, str], int] = field(default_factory=dict)
    """How many, by partition and segment."""


def fields_of(rules: Iterable[Rules]) -> list[str]:
    """What profiles must bring."""
    return sorted({name for one in rules for segment in one.segments for name in segment.fields})


def evaluate(
    state: SegmentState, profiles: pl.DataFrame, hours: Sequence[tuple[int, int]] = ()
) -> tuple[SegmentState, list[Move], list[Count]]:
    """The state after these rows, who moved, and the counts at these (partition, hour).

    Partitions in the rows have rules; the rows of a user may be of several minutes.
    """
    moves: list[Move] = []
    before = state
    for rules, rows in _by_rules(state, profiles):
        state, moved = _evaluated(state, rows, rules, range(len(rules.segments)))
        moves += moved
    return state, moves, list(_counts(before, state, moves, hours))


def changed(
    state: SegmentState, profiles: pl.DataFrame, partition: int, rules: Rules
) -> tuple[SegmentState, list[Move]]:
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
    return state, left + moved


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
) -> tuple[SegmentState, list[Move]]:
    """By the segments of these bits; `only_leave`: those are no more."""
    if not profiles.height or not bits:
        return state, []
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
    mask = _masks(state.masks, users)
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
        return state, []
    # In time order within each user, so that what is entered here can be left here.
    moved = moved[np.lexsort((rank[moved], user[moved]))]
    pairs = _Pairs.of(key[moved], minute[moved], turned[moved], enter[moved], rules, bits)
    news = (mask != began).nonzero()[0]
    of = np.empty(len(users), np.int32)
    of[user] = partition
    stays, entered = pairs.stays(state.stays, partition[moved])
    moves = pairs.moves(profiles, moved, entered, change, with_values=not only_leave)
    members = dict(state.members)
    for move in moves:
        place = move.partition, move.segment
        members[place] = members.get(place, 0) + (1 if move.is_member else -1)
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


def _masks(table: Runs, users: Array) -> Array:
    found = np.zeros(len(users), np.int64)
    which, columns = table.find(users)
    found[which] = columns[1]  # older rows first: the last one stays
    return found


def user_keys(hashes: Array, partition: Array) -> Array:
    """The keys of `masks`, of the hashes of users' names."""
    return keys.combine(hashes, partition)


@cache
def _segment_key(name: str) -> int:
    return int(keys.of_strings(pl.Series([name]))[0])


def stay_keys(users: Array, segment: Array) -> Array:
    """The keys of `stays`, of users' keys and those of segments."""
    return keys.combine(users, segment)


@dataclass(frozen=True, kw_only=True)
class _Pairs:
    """Moves as pairs of a row and a segment: by segment, user and time."""

    row: Array
    """Among the rows that were given."""
    segment: list[Segment]
    key: Array
    """Of the stay."""
    minute: Array
    is_member: Array

    @staticmethod
    def of(
        user: Array, minute: Array, turned: Array, enter: Array, rules: Rules, bits: Sequence[int]
    ) -> _Pairs:
        """Rows are sorted by user and time."""
        bit = np.array(bits, np.int64)
        which, row = (turned[None, :] >> bit[:, None] & 1).nonzero()
        known = [rules.segments[one] for one in bits]
        names = np.array([_segment_key(one.name) for one in known], np.uint64)
        return _Pairs(
            row=row,
            segment=[known[at] for at in which.tolist()],
            key=stay_keys(user[row], names[which]),
            minute=minute[row],
            is_member=(enter[row] >> bit[which] & 1).astype(bool),
        )

    def stays(self, before: Runs, partition: Array) -> tuple[Runs, Array]:
        """What becomes of the stays, and since when each pair's stay is."""
        known = np.full(len(self.key), GONE)
        which, columns = before.find(self.key)
        known[which] = columns[1]
        same = ~keys.firsts(self.key)  # as the pair before: then that one enters
        known[1:][same[1:]] = self.minute[:-1][same[1:]]
        last = np.append(~same[1:], True)
        since = np.where(self.is_member, self.minute, GONE)[last]
        after = before.add(self.key[last], partition[self.row][last], since)
        return after, np.where(self.is_member, self.minute, known)

    def moves(
        self,
        profiles: pl.DataFrame,
        moved: Array,
        entered: Array,
        change: str | None,
        *,
        with_values: bool,
    ) -> list[Move]:
        """As they are told; `moved` are the places of the rows in `profiles`."""
        names = {name for one in set(self.segment) for name in one.fields} if with_values else set()
        wanted = profiles.select(*PLACE[:2], *sorted(names))[moved]
        columns = wanted.to_dict(as_series=False)
        partition, user = (columns.pop(name) for name in PLACE[:2])
        return [
            Move(
                partition=partition[row],
                at=at,
                user_id=user[row],
                segment=segment.name,
                entered_at=since,
                is_member=member,
                reason=reason_of(
                    {name: columns[name][row] for name in segment.fields if name in columns}, change
                ),
                rule_version=segment.version,
            )
            for row, at, segment, since, member in zip(
                self.row.tolist(),
                self.minute.tolist(),
                self.segment,
                entered.tolist(),
                self.is_member.tolist(),
                strict=True,
            )
        ]


def reason_of(values: Mapping[str, float | str | None], change: str | None) -> str:
    """The values behind a move as JSON; real numbers to six places."""
    told: dict[str, float | str | None] = {"change": change} if change else {}
    for name, value in values.items():
        told[name] = round(value, 6) if isinstance(value, float) else value
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


def _counts(
    before: SegmentState,
    after: SegmentState,
    moves: Iterable[Move],
    hours: Sequence[tuple[int, int]],
) -> Iterator[Count]:
    """Moves of the hour itself are in its count."""
    for partition, hour in hours:
        net: dict[str, int] = {}
        for move in moves:
            if move.partition == partition and move.at <= hour:
                net[move.segment] = net.get(move.segment, 0) + (1 if move.is_member else -1)
        for segment in after.rules[partition].segments:
            members = before.members.get((partition, segment.name), 0)
            yield Count(partition, hour, segment.name, members + net.get(segment.name, 0))


def _latest_of(run: Run) -> Run:
    """One row a user; `run` has older rows first."""
    order = np.argsort(run.key, kind="stable")
    return _latest(run.take(order))


def restored(
    state: SegmentState,
    partition: int,
    rules: Rules,
    hashes: Array,
    segment: pl.Series,
    since: Array,
) -> SegmentState:
    """With a partition whose stays are these: the users' hashes, their segments, since when."""
    place = np.full(len(hashes), partition, np.int32)
    users = user_keys(hashes, place)
    stays = state.stays
    parts = []
    for bit, one in enumerate(rules.segments):
        mine = (segment == one.name).to_numpy()
        segments = np.full(mine.sum(), _segment_key(one.name), np.uint64)
        stays = stays.add(stay_keys(users[mine], segments), place[mine], since[mine])
        parts.append((users[mine], np.full(mine.sum(), 1 << bit, np.int64)))
    key = np.concatenate([np.zeros(0, np.uint64), *(part[0] for part in parts)])
    bits = np.concatenate([np.zeros(0, np.int64), *(part[1] for part in parts)])
    order = np.argsort(key, kind="stable")
    starts = keys.firsts(key[order]).nonzero()[0]
    mask = np.bitwise_or.reduceat(bits[order], starts) if len(starts) else bits
    return with_partition(
        state,
        partition,
        rules,
        Run(key=key[order][starts], columns=(place[: len(mask)], mask)),
        stays,
    )


def with_partition(
    state: SegmentState, partition: int, rules: Rules, masks: Run, stays: Runs
) -> SegmentState:
    """With a partition's rules and masks, one row a user; `stays` has its stays already."""
    members = {
        (partition, one.name): int((masks.columns[1] >> bit & 1).sum())
        for bit, one in enumerate(rules.segments)
    }
    return SegmentState(
        masks=state.masks.add(masks.key, *masks.columns),
        stays=stays,
        rules={**state.rules, partition: rules},
        members={**state.members, **members},
    )


def masks_of(state: SegmentState, partition: int) -> Run:
    """The masks of a partition, one row a user."""
    return _latest_of(state.masks.where(lambda run: run.columns[0] == partition))


def stays_of(state: SegmentState, partition: int) -> Run:
    """The stays of a partition that have not ended."""
    run = _latest_of(state.stays.where(lambda run: run.columns[0] == partition))
    return run.take((run.columns[1] != GONE).nonzero()[0])


def without(state: SegmentState, partitions: set[int]) -> SegmentState:
    """Without these partitions."""
    gone = np.array(sorted(partitions), np.int32)

    def stays(run: Run) -> Array:
        return ~np.isin(run.columns[0], gone)

    return SegmentState(
        masks=state.masks.keep(stays),
        stays=state.stays.keep(stays),
        rules={p: rules for p, rules in state.rules.items() if p not in partitions},
        members={place: n for place, n in state.members.items() if place[0] not in partitions},
    )
