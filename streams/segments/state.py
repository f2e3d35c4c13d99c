"""Who is in which segment, and since when, of some source partitions.

Upstream: `evaluation.py` moves people; a changelog or a snapshot brings them back. Downstream:
`membership.py`. Invariants: states are never changed in place; a user is in a segment from
`entered_at` until `left_at`, half-open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import polars as pl

from streamgauge.schemas.segments import Rules
from streamgauge.streams.metrics import keys
from streamgauge.streams.metrics.runs import Run, Runs

Array = np.ndarray

GONE = -1
"""In place of `entered_at` of who is not in the segment."""


def _latest(run: Run) -> Run:
    last = np.ones(len(run.key), bool)
    np.not_equal(run.key[1:], run.key[:-1], out=last[:-1])
    return run if last.all() else run.take(last.nonzero()[0])


NO_MASKS = Runs(dtypes=(np.int32, np.int64), fold=_latest)
"""By user: partition, and a bit for each segment in the order of the partition's rules."""

NO_STAYS = Runs(dtypes=(np.int32, np.int64), fold=_latest)
"""By user and segment: partition, entered_at or GONE."""


@dataclass(frozen=True, kw_only=True)
class SegmentState:
    """Who is in which segment."""

    masks: Runs = NO_MASKS
    stays: Runs = NO_STAYS
    rules: Mapping[int, Rules] = field(default_factory=dict)
    """In force, by source partition."""
    members: Mapping[tuple[int, str], int] = field(default_factory=dict)
    """How many, by partition and segment."""


def bits_of(table: Runs, users: Array) -> Array:
    """The masks of these users; of who is in none, 0."""
    found = np.zeros(len(users), np.int64)
    which, columns = table.find(users)
    found[which] = columns[1]  # older rows first: the last one stays
    return found


def user_keys(hashes: Array, partition: Array) -> Array:
    """The keys of `masks`, of the hashes of users' names."""
    return keys.combine(hashes, partition)


@cache
def segment_key(name: str) -> int:
    """Of a segment, as `stay_keys` wants it."""
    return int(keys.of_strings(pl.Series([name]))[0])


def stay_keys(users: Array, segment: Array) -> Array:
    """The keys of `stays`, of users' keys and those of segments."""
    return keys.combine(users, segment)


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
        segments = np.full(mine.sum(), segment_key(one.name), np.uint64)
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
