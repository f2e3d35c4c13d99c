"""The profiles of all users of some partitions, and how events and sessions change them.

Upstream: `digest.py`, final sessions. Downstream: `figures.py`, `parts.py`, `feed.py`. Invariants:
a state is never changed in place; it depends on which events and sessions it has seen, not on their
order or batches; a session that comes again changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from streamgauge.streams.metrics.keys import numbered, ordering
from streamgauge.streams.metrics.runs import Run, Runs, spread
from streamgauge.streams.profiles import rows as profile
from streamgauge.streams.profiles import tags
from streamgauge.streams.profiles.digest import Digest
from streamgauge.streams.profiles.packed import Packed
from streamgauge.streams.profiles.rows import COUNT, DAY_MS, SUM
from streamgauge.streams.profiles.table import Table
from streamgauge.streams.profiles.tags import NO_TAGS, Names

Array = np.ndarray

_CHUNKS = 32
_BLOCK = 4096
"""Rows at once: more would leave the processor's cache between one step and the next."""


@dataclass(frozen=True, kw_only=True)
class Finals:
    """Sessions that are over, each told once, of a user in order of their starts."""

    key: Array
    """As `digest.keys` has them."""
    start: Array
    duration: Array
    """ms."""
    bounce: Array
    binge: Array


@dataclass(frozen=True, kw_only=True)
class State:
    """An immutable table of profiles."""

    rows: Table = field(default_factory=Table)
    tags: Runs = NO_TAGS
    users: pl.Series = field(default_factory=lambda: pl.Series([], dtype=pl.String))
    """By slot."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Some profiles."""

    key: Array
    rows: Array
    users: pl.Series
    place: Array
    """Of each tag, in order: whose it is."""
    tags: Run


def step(state: State, digest: Digest, names: Names) -> State:
    """With the events of one round."""
    if not len(digest.key):
        return state
    place, users = state.rows.places(digest.key), state.users
    packed, there = state.rows.found(place)
    new = (place < 0).nonzero()[0]
    slot = np.empty(len(place), np.uint32)
    slot[new] = len(users) + np.arange(len(new))
    if len(new):
        news = digest.user_key if len(new) == len(place) else digest.user_key[new]
        users = pl.concat([users, news], rechunk=False)
        users = users.rechunk() if users.n_chunks() > _CHUNKS else users
    after = []
    for first in range(0, len(place), _BLOCK):
        part = slice(first, first + _BLOCK)
        delta = digest.rows[part]
        rows = profile.added(packed.rows(there[part]), delta, names.texts)
        slot[part] = np.where(place[part] < 0, slot[part], rows["slot"])
        rows["slot"], rows["partition"] = slot[part], delta["partition"]
        after.append(Packed.of(rows))
    added = _tag_rows(digest.tags, slot)
    return State(
        rows=state.rows.put(digest.key, Packed.together(after), len(new)),
        tags=state.tags.add(added.key, *added.columns),
        users=users,
    )


def with_sessions(state: State, finals: Finals, names: Names) -> tuple[State, Array, Array]:
    """With sessions that are over; also whose profile changed, and the first day of each."""
    first, owner = numbered(finals.key)
    keys = finals.key[first]
    selected = select(state, keys, with_tags=False)
    at = np.minimum(np.searchsorted(selected.key, keys), max(len(selected.key) - 1, 0))
    through = np.full(len(keys), np.iinfo(np.int64).max)
    if len(selected.key):
        here = selected.key[at] == keys
        through[here] = selected.rows["sessions_through"][at[here]]
    new = finals.start > through[owner]
    if not new.any():
        return state, keys[:0], keys[:0].astype(np.int64)
    first, owner = numbered(finals.key[new])
    keys = finals.key[new][first]
    start, duration = finals.start[new], finals.duration[new]
    selected = select(state, keys, with_tags=False)
    delta = profile.empty(len(keys))
    for name, counted in (
        ("sessions", np.ones(len(owner), bool)),
        ("bounces", finals.bounce[new]),
        ("binges", finals.binge[new]),
    ):
        delta["counts"][:, COUNT[name]] = np.bincount(owner[counted], minlength=len(keys))
    np.add.at(delta["sums"][:, SUM["session_ms"]], owner, duration)
    np.maximum.at(delta["sessions_through"], owner, start)
    after = profile.added(selected.rows, delta, names.texts)
    day = start // DAY_MS
    codes = [names.of_days(what, day) for what in ("sessions", "ms")]
    added = tags.gathered(
        np.tile(owner, 2),
        np.concatenate(codes),
        np.zeros(2 * len(owner)),
        np.concatenate([np.ones(len(owner), np.int64), duration]),
    )
    added = _tag_rows(added, after["slot"])
    first_day = np.full(len(keys), np.iinfo(np.int64).max)
    np.minimum.at(first_day, owner, day)
    state = replace(
        state,
        rows=state.rows.put(keys, Packed.of(after), 0),
        tags=state.tags.add(added.key, *added.columns),
    )
    return state, keys, first_day


def select(state: State, keys: Array, *, with_tags: bool = True) -> Selection:
    """The profiles of these keys (sorted, each once) that there are."""
    which, rows = state.rows.find(keys)
    slots = rows["slot"]
    run = tags.of_slots(state.tags, slots if with_tags else slots[:0])
    return Selection(
        key=keys[which],
        rows=rows,
        users=state.users[slots],
        place=(run.key >> np.uint64(32)).view(np.int64),
        tags=run,
    )


def keys_of(state: State, partition: int, seen_since: int = -1) -> Array:
    """The keys of all of a partition who were active on or after a day, sorted."""

    def wanted(rows: Packed) -> Array:
        found: Array = rows.field("last_day") >= seen_since
        return found & (rows.field("partition") == partition)

    return state.rows.where(wanted)


def _tag_rows(run: Run, slot: Array) -> Run:
    """By slot in place of the place among some profiles, and in their order."""
    first = np.searchsorted(run.key, np.arange(len(slot) + 1).astype(np.uint64) << np.uint64(32))
    by_slot = ordering(slot.astype(np.uint64))
    which, place = spread(first[by_slot], np.diff(first)[by_slot])
    run = run.take(place)
    key = slot[by_slot][which].astype(np.uint64) << np.uint64(32) | tags.code_of(run.key)
    return Run(key=key, columns=run.columns)
