"""Sessions as they stand, from accepted events and the watermarks of source partitions.

    time      --------------------------------------------------------------->
    floor                        |  watermark - L, in whole minutes
    spans     a..b     c....e    |  f..g     events may come beside and inside these, not those
              over     a start that stays

Neighbours of one session become one span at once: no event that comes can part them. What may
part them is a cut, 24 h after the start of a session. A start before the floor stays; any other is
less than 24 h ago, as L is at most 23 h. So all cuts are known, and spans are never joined over
one (`splitting.cuts`). With a greater L events are kept one by one until they are behind the floor.

Upstream: `spans.arrived`. Downstream: rows of `sessions` and `device_sessions`, latest wins. A
session is told while it is open, when it changes, and for the last time, `is_final`, when it is
over: no accepted event can reach it once the floor is past its end + 30 min, or its start + 24 h. A
late event may join two sessions, or give one an earlier start: a row that is no more is told as
gone. Events wait in a slot until `flush` is asked for it; where many wait, `fold` makes them part
of what is open, and which sessions have changed waits on.

Invariants: states are never changed in place; what is told in the end depends on the events and the
watermarks alone, not on batches or the order of arrival; a final row never changes; with a key all
that changed of it is told, for a row says through which offset its key is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from streamgauge.streams.chunks import FAN
from streamgauge.streams.latest import Latest
from streamgauge.streams.metrics.fate import NONE
from streamgauge.streams.metrics.keys import among, combine, distinct, union
from streamgauge.streams.metrics.runs import Run, Runs, together
from streamgauge.streams.sessions import spans
from streamgauge.streams.sessions.spans import (
    CONVERSIONS,
    NO_ROWS,
    NO_SPANS,
    TEXTS,
    Arrived,
    Read,
    Spans,
    concatenated,
)
from streamgauge.streams.sessions.splitting import CAP_MS, GAP_MS, begins, closed, closes, cuts
from streamgauge.streams.sessions.texts import Texts
from streamgauge.streams.tiers import appended

Array = np.ndarray

FLOOR_MS = 60_000
JOINED_UP_TO_MS = CAP_MS - 3_600_000
"""With a greater lateness, a start that may still move can be a day ago."""

SLOTS = 8
NO_NAMES = Runs(dtypes=(np.uint64,))
_FEW = 50_000
"""Texts of no use that are not worth a look."""
MANY = 200_000
"""Waiting events that are folded: memory is worth more."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What sessions depend on, beside the events."""

    lateness: int
    identifiable: pl.Expr
    conversions: tuple[str, ...] = CONVERSIONS


@dataclass(frozen=True, kw_only=True)
class Slot:
    """Events of some keys since these were told."""

    events: tuple[Run, ...] = ()
    changed: Runs = NO_NAMES
    """Of folded events: by key the names of their sessions."""
    oldest: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """By partition: an offset and a time that none of them is below."""
    again: bool = False
    """Whether they follow a snapshot: what was told of some after it is not known."""


@dataclass(frozen=True, kw_only=True)
class SessionState:
    """Sessions that are not over."""

    open: Latest = NO_SPANS
    waiting: tuple[Slot, ...] = (Slot(),) * SLOTS
    texts: Texts = field(default_factory=Texts)
    """What rows of these name."""
    watermarks: Mapping[int, int] = field(default_factory=dict)
    """By source partition."""
    floors: Mapping[int, int] = field(default_factory=dict)
    swept: Mapping[int, int] = field(default_factory=dict)
    """The floors at which sessions were closed last."""
    offsets: Mapping[int, int] = field(default_factory=dict)
    """The last one of each partition whose event is in the state."""

    @property
    def waits(self) -> int:
        """How many events have not been folded or told."""
        return sum(len(run.key) for slot in self.waiting for run in slot.events)

    @property
    def settled(self) -> bool:
        """Whether everything has been told."""
        return not any(slot.events or slot.changed.runs for slot in self.waiting)


@dataclass(frozen=True, kw_only=True)
class Told:
    """What is to be told of some keys."""

    sessions: Spans = field(default_factory=Spans.none)
    """Spans of whole sessions that changed, or are over."""
    is_final: Array = field(default_factory=lambda: np.zeros(0, bool))
    gone: Spans = field(default_factory=Spans.none)
    """Spans of sessions that were told and are no more."""
    parts: Spans = field(default_factory=Spans.none)
    """The spans of those open sessions that are kept as several."""
    parts_begin: Array = field(default_factory=lambda: np.zeros(0, bool))
    """Which of them is the first of its session."""
    offsets: Mapping[int, int] = field(default_factory=dict)
    """By partition, up to which all of this is."""


def step(
    state: SessionState,
    run: Run,
    arrived: Arrived,
    watermarks: Mapping[int, int],
    lateness: int,
    *,
    again: bool = False,
) -> SessionState:
    """The state after a batch: `run` is `arrived.users` or `arrived.devices`, or some of them.

    `again`: they were read before, and a snapshot does not know what was told of them.
    """
    known = {p: watermark for p, watermark in watermarks.items() if watermark != NONE}
    floors = {p: (watermark - lateness) // FLOOR_MS * FLOOR_MS for p, watermark in known.items()}
    state = replace(
        state,
        watermarks={**state.watermarks, **known},
        floors={**state.floors, **floors},
        offsets={
            **state.offsets,
            **{p: max(at, state.offsets.get(p, at)) for p, at in arrived.offsets.items()},
        },
    )
    if not len(run.key):
        return state
    run, texts = Read(run=run, texts=arrived.texts).joined_to(state.texts)
    slot = slot_of(run.key)
    order = np.argsort(slot, kind="stable")
    ends = np.bincount(slot, minlength=SLOTS).cumsum().tolist()
    sorted_run = run.take(order)
    waiting = []
    for begin, end, one in zip([0, *ends], ends, state.waiting, strict=False):
        if begin < end:
            part = _slice(sorted_run, begin, end)
            oldest = dict(one.oldest)
            for partition, (offset, time) in arrived.oldest.items():
                at, earliest = oldest.get(partition, (offset, time))
                oldest[partition] = (at, min(earliest, time))
            events = appended(one.events, part, concatenated, FAN)
            one = replace(one, events=events, oldest=oldest, again=one.again or again)
        waiting.append(one)
    return replace(state, waiting=tuple(waiting), texts=texts)


def slot_of(key: Array) -> Array:
    """Which sessions are told together."""
    return (key % np.uint64(SLOTS)).astype(np.int8)


def close(state: SessionState, lateness: int) -> tuple[SessionState, Told]:
    """Tell the keys of which some session is over."""
    if state.floors == state.swept:
        return state, Told()

    latest = max(state.floors.values()) // FLOOR_MS

    def is_over(columns: Sequence[Array]) -> Array:
        over = columns[1] <= latest
        some = over.nonzero()[0]
        over[some] = _closed(columns[0].take(some), state.floors)
        return over

    keys = [state.open.where(is_over).key]
    for slot in state.waiting:
        if any(time + GAP_MS < state.floors.get(p, NONE) for p, (_, time) in slot.oldest.items()):
            keys += [run.key[_closed(run.columns[0], state.floors)] for run in slot.events]
    state = replace(state, swept=state.floors)
    due = union(*keys)
    if not len(due):
        return state, Told()
    found, waiting = [], []
    for slot in state.waiting:
        whole = concatenated(slot.events)
        mine = among(whole.key, due)
        found.append(whole.take(mine.nonzero()[0]))
        rest = whole.take((~mine).nonzero()[0]) if mine.any() else whole
        waiting.append(replace(slot, events=(rest,) if len(rest.key) else ()))
    again = any(slot.again for slot in state.waiting)
    names = changed(state.waiting, due)
    state = replace(state, waiting=tuple(waiting))
    return _told(state, due, concatenated(found), lateness, again, names)


def fold(state: SessionState, lateness: int) -> tuple[SessionState, Told]:
    """After `close`: make all that waits part of what is open. Only keys of which a row is no more
    are told, for what is gone may be all that a restart would know of them."""
    slots = state.waiting
    whole = concatenated([run for slot in slots for run in slot.events])
    again = any(slot.again for slot in slots)
    state, told = _told(state, distinct(whole.key), whole, lateness, again, NO_ROWS.key)
    key, names = told.sessions.key, _names(told.sessions)
    number, waiting = slot_of(key), []
    for at, slot in enumerate(slots):
        mine = (number == at).nonzero()[0]
        waiting.append(Slot(changed=slot.changed.add(key[mine], names[mine]), oldest=slot.oldest))
    state = replace(state, waiting=tuple(waiting))
    lost = distinct(told.gone.key)
    state, now = _told(state, lost, NO_ROWS, lateness, False, changed(waiting, lost))
    return state, replace(now, gone=told.gone)


def changed(slots: Sequence[Slot], keys: Array) -> Array:
    """Names of sessions of these keys that changed and were not told."""
    found = [slot.changed.find(keys)[1][0] for slot in slots if slot.changed.runs]
    return union(*found)


def due(state: SessionState, needed: Mapping[int, tuple[int, int]]) -> set[int]:
    """The slots that cannot wait: what has an offset or a time up to the needed is not read again.

    `needed`: by partition an offset, below which nothing is read, and a time, up to which.
    """
    return {
        number
        for number, slot in enumerate(state.waiting)
        if any(
            partition in needed and (offset < needed[partition][0] or time <= needed[partition][1])
            for partition, (offset, time) in slot.oldest.items()
        )
    }


def flush(
    state: SessionState, lateness: int, slots: set[int] | None = None
) -> tuple[SessionState, Told]:
    """Tell what changed of the keys in these slots, or in all."""
    wanted = set(range(SLOTS)) if slots is None else slots
    mine = [slot for n, slot in enumerate(state.waiting) if n in wanted]
    events = [run for slot in mine for run in slot.events]
    others = [run.key for slot in mine for run in slot.changed.runs]
    if not (events or others):
        return state, Told()
    waiting = tuple(Slot() if n in wanted else slot for n, slot in enumerate(state.waiting))
    whole = concatenated(events)
    keys = union(whole.key, *others)
    names = changed(mine, keys)
    state = replace(state, waiting=waiting)
    return _told(state, keys, whole, lateness, any(slot.again for slot in mine), names)


def without(state: SessionState, partitions: set[int]) -> SessionState:
    """Without what is of these partitions."""
    gone = sorted(partitions)

    def others(columns: Sequence[Array]) -> Array:
        return ~np.isin(columns[0]["partition"], gone)

    def left(values: Mapping[int, Any]) -> dict[int, Any]:
        return {partition: value for partition, value in values.items() if partition not in gone}

    slots = []
    for slot in state.waiting:
        events = [run.take(others(run.columns).nonzero()[0]) for run in slot.events]
        slots.append(
            replace(
                slot, events=tuple(run for run in events if len(run.key)), oldest=left(slot.oldest)
            )
        )
    return SessionState(
        open=state.open.keep(others),
        waiting=tuple(slots),
        texts=state.texts,
        watermarks=left(state.watermarks),
        floors=left(state.floors),
        swept=left(state.swept),
        offsets=left(state.offsets),
    )


def _told(
    state: SessionState, keys: Array, events: Run, lateness: int, again: bool, names: Array
) -> tuple[SessionState, Told]:
    """Join what is open of these keys with these events of theirs, in the order of arrival.

    `names`: of sessions that are to be told as well."""
    which, (rows, _) = state.open.find(keys)
    known = Run(key=keys[which], columns=(rows,))
    arrival = np.append(np.full(len(which), -1), np.arange(len(events.key)))
    both = concatenated([known, events])
    now, arrival = spans.ordered_with(_spans(both, state.texts), arrival)
    was = (arrival < 0).nonzero()[0]
    was, before = _before(was, now.take(was))
    is_first = _begins(now)
    sessions = spans.joined(now, is_first)
    final = _closed(sessions.rows, state.floors)
    first_of = is_first.cumsum() - 1
    is_open = (~final[first_of]).nonzero()[0]
    is_first = is_first[is_open]
    if lateness <= JOINED_UP_TO_MS:
        apart = cuts(now.key[is_open], now.rows["start"][is_open], is_first)
    else:
        floors = _floors(state.floors, now.rows["partition"][is_open])
        apart = now.rows["end"][is_open] >= floors
    if apart.any():
        left = replace(now.take(is_open), texts=sessions.texts)
        left, is_first = spans.joined(left, is_first | apart), is_first[is_first | apart]
    else:  # as nearly always: a session is one span
        left = sessions.take((~final).nonzero()[0])
        is_first = np.ones(len(left.key), bool)
    run = Run(key=left.key, columns=(left.rows,))
    state = _tidied(
        replace(state, open=with_open(state.open, keys, run, len(which)), texts=left.texts)
    )
    of, start = first_of[was], sessions.rows["start"]  # with the same start it is the same one
    same = start[of] == before.rows["start"]
    gone = before.take((~same).nonzero()[0])
    if again:
        begun = now.take(_overtaken(arrival, first_of).nonzero()[0])
        begun = begun.take((~among(_names(begun), np.sort(_names(sessions)))).nonzero()[0])
        gone = replace(
            gone,
            key=np.concatenate([gone.key, begun.key]),
            rows=together([gone.rows, begun.rows]),
        )
    several = _several(is_first)
    news = np.ones(len(final), bool)  # new events only add: with as many it has the same events
    news[of[same & (sessions.rows["events"][of] == before.rows["events"])]] = False
    news |= final
    if len(names):
        news |= among(_names(sessions), names)
    news = news.nonzero()[0]
    return state, Told(
        sessions=sessions.take(news),
        is_final=final[news],
        gone=gone,
        parts=left.take(several),
        parts_begin=is_first[several],
        offsets=state.offsets,
    )


def _before(places: Array, kept: Spans) -> tuple[Array, Spans]:
    """The sessions that these spans were, and the place of the first span of each; of their texts
    only whose they are."""
    is_first = _begins(kept)
    if is_first.all():
        return places, kept
    rows = together([kept.rows])
    for name in ("entry_id", "exit_id", "plays"):
        rows[name] = 0
    return places[is_first], spans.joined(replace(kept, rows=rows), is_first)


def _spans(run: Run, texts: Texts) -> Spans:
    return Spans(key=run.key, rows=run.columns[0], texts=texts)


def with_open(open_: Latest, keys: Array, run: Run, replaced: int) -> Latest:
    """With these rows in place of all that the keys (unique) had: so many rows."""
    rows = run.columns[0]
    over = (closes(rows["start"], rows["end"]) // FLOOR_MS).astype(np.int32)
    return open_.put(keys, Run(key=run.key, columns=(rows, over)), replaced)


def taken_up(state: SessionState, read: Read) -> tuple[SessionState, Run]:
    """With the texts of these rows, and the rows with the state's numbers of them."""
    run, texts = read.joined_to(state.texts)
    return replace(state, texts=texts), run


def _tidied(state: SessionState) -> SessionState:
    """Without the texts that nothing names, once these are most of them."""
    if len(state.texts) <= _FEW + 2 * state.texts.kept:
        return state
    table = state.open.compacted()
    runs = [*table.chunks, *(run for slot in state.waiting for run in slot.events)]
    used = np.zeros(len(state.texts), bool)
    for run in runs:
        for name in TEXTS:
            used[run.columns[0][name]] = True
    texts, number = state.texts.only(used)

    def renamed(run: Run) -> Run:
        rows = together(run.columns[:1])
        for name in TEXTS:
            rows[name] = number[rows[name]]
        return Run(key=run.key, columns=(rows, *run.columns[1:]))

    slots = (replace(slot, events=tuple(map(renamed, slot.events))) for slot in state.waiting)
    return replace(state, open=table.changed(renamed), waiting=tuple(slots), texts=texts)


def _overtaken(arrival: Array, session: Array) -> Array:
    """Events before which one of their session came later: they may have begun one until then."""
    order = arrival + session * (len(arrival) + 1)  # a later session is greater than all before
    latest = np.maximum.accumulate(order)
    found = np.zeros(len(order), bool)
    found[1:] = (latest[:-1] > order[1:]) & (arrival[1:] >= 0)
    return found


def latest(told: Sequence[Told]) -> list[Told]:
    """What is told one after the other, without what is told again later."""
    seen = np.zeros(0, np.uint64)
    found = []
    for one in reversed(told):
        names, gone = _names(one.sessions), _names(one.gone)
        new = (~np.isin(names, seen)).nonzero()[0]
        left = one.gone.take((~np.isin(gone, seen)).nonzero()[0])
        found.append(
            replace(one, sessions=one.sessions.take(new), is_final=one.is_final[new], gone=left)
        )
        seen = np.concatenate([seen, names, gone])
    return found[::-1]


def of_others(told: Told, partitions: set[int]) -> Told:
    """Without what is of these partitions."""
    gone = sorted(partitions)

    def others(found: Spans) -> Array:
        return (~np.isin(found.rows["partition"], gone)).nonzero()[0]

    mine, parts = others(told.sessions), others(told.parts)
    return Told(
        sessions=told.sessions.take(mine),
        is_final=told.is_final[mine],
        gone=told.gone.take(others(told.gone)),
        parts=told.parts.take(parts),
        parts_begin=told.parts_begin[parts],
        offsets=told.offsets,
    )


def _begins(found: Spans) -> Array:
    return begins(found.key, found.rows["start"], found.rows["end"])


def _closed(rows: Array, floors: Mapping[int, int]) -> Array:
    return closed(rows["start"], rows["end"], _floors(floors, rows["partition"]))


def _names(found: Spans) -> Array:
    return names_of(found.key, found.rows)


def names_of(key: Array, rows: Array) -> Array:
    """Of the sessions that begin with these spans."""
    return combine(key, rows["start"])


def _several(is_first: Array) -> Array:
    """Places of spans whose session has more than one."""
    counts = np.diff(np.append(is_first.nonzero()[0], len(is_first)))
    return (counts > 1)[is_first.cumsum() - 1].nonzero()[0]


def _floors(floors: Mapping[int, int], partition: Array) -> Array:
    """The floor of each one's partition; NONE where it is not known yet."""
    table = np.full(int(partition.max(initial=-1)) + 1, NONE)
    for number, floor in floors.items():
        if number < len(table):
            table[number] = floor
    return table[partition]


def _slice(run: Run, begin: int, end: int) -> Run:
    return Run(key=run.key[begin:end], columns=tuple(column[begin:end] for column in run.columns))
