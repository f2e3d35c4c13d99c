"""The first stage of metrics: what each source partition of `events` adds up to.

Upstream: decoded events and ticks. Downstream: rows of `metric-partials`, absolute values, which
`merge.py` adds up over the source partitions; and the changelog `metric-users`.

    rows     key -> partition, grain, minute, dimensions       of open minutes
    entries  key -> slot, value                                what to add up (`parts.py`)
    seen     (key, user)                                       distinct users of open minutes
    ids      event_id -> timestamp                             for duplicates (`fate.py`)
    sketches place -> HLL                                      distinct users of hours and days

Only the sketches have a changelog, written at least every L/2 of event time; everything else is
built anew from the events since `Clock`'s R, and the users since then go into the sketches again,
which changes nothing. An accepted event whose id came again with another timestamp goes to the
changelog as well: the fate of those that repeat it cannot be told from what is read again.

Invariants: the state after some offsets is the same however they were batched and how often
reading was resumed; a window's values are final once the partition's watermark is at its end + L;
what is throttled (users of hours and days) gets out when its window closes at the latest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from streamgauge.streams.metrics import fate
from streamgauge.streams.metrics.clock import MINUTE_MS, Clock
from streamgauge.streams.metrics.fate import NONE, Fates, Original
from streamgauge.streams.metrics.keys import among, combine, firsts, once
from streamgauge.streams.metrics.parts import Entries, combined
from streamgauge.streams.metrics.plan import Plan
from streamgauge.streams.metrics.reading import Events
from streamgauge.streams.metrics.runs import Run, Runs
from streamgauge.streams.metrics.sketches import Place, Sketch, Sketches

Array = np.ndarray


def _summed(run: Run) -> Run:
    """One entry for each key and slot."""
    slot, value = run.columns
    row = firsts(run.key).cumsum() - 1
    entries = combined(Entries(row, slot, value))
    first = np.searchsorted(row, entries.row)
    return Run(key=run.key[first], columns=(entries.slot, entries.value))


_NO_ROWS = Runs(dtypes=(np.int32, np.int32, np.int64, object))
_NO_ENTRIES = Runs(dtypes=(np.uint32, np.int64), fold=_summed)
_NO_PAIRS = Runs(dtypes=(np.int32, np.int64))


@dataclass(frozen=True, kw_only=True)
class SourceState:
    """Everything that the stage knows; never changed in place."""

    clocks: Mapping[int, Clock] = field(default_factory=dict)
    ids: Runs = field(default_factory=fate.no_ids)
    rows: Runs = _NO_ROWS
    entries: Runs = _NO_ENTRIES
    seen: Runs = _NO_PAIRS
    dirty: tuple[Array, ...] = ()
    """Keys of rows that changed since the last flush."""
    overlay: tuple[pl.DataFrame, ...] = ()
    """New (key, user) pairs that are not in the sketches yet."""
    sketches: Sketches = field(default_factory=dict)
    originals: Mapping[tuple[int, int], Original] = field(default_factory=dict)
    """Accepted events whose id came again with another timestamp, by partition and offset."""
    unsaved: tuple[Original, ...] = ()

    @property
    def settled(self) -> bool:
        """Whether everything has gone out."""
        return (
            not self.dirty
            and not self.overlay
            and all(sketch.emitted for sketch in self.sketches.values())
        )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the results depend on, beside the events."""

    plan: Plan
    lateness: int
    identifiable: pl.Expr


def step(
    state: SourceState, frame: pl.DataFrame, settings: Settings, *, replay: bool = False
) -> tuple[SourceState, Fates]:
    """The state after a batch of records, and the fate of each."""
    state, fates = decided(state, frame, settings)
    return counted(state, frame, fates, settings, replay=replay), fates


def decided(
    state: SourceState, frame: pl.DataFrame, settings: Settings
) -> tuple[SourceState, Fates]:
    """The fate of each record of a batch; nothing is counted yet."""
    clocks = dict(state.clocks)
    before = {partition: clock.watermark for partition, clock in clocks.items()}
    fates = fate.decide(frame, before, state.ids, settings.lateness)
    for partition, first, appended in _firsts(frame):
        clock = clocks.get(partition) or Clock(checkpoints=((first, NONE),))
        clocks[partition] = clock.advanced(
            first, fates.watermarks[partition], appended, settings.lateness
        )
    originals = {(o.partition, o.offset): o for o in fates.originals}
    new = tuple(o for place, o in originals.items() if place not in state.originals)
    state = replace(
        state,
        clocks=clocks,
        ids=fates.ids,
        originals={**state.originals, **originals} if new else state.originals,
        unsaved=state.unsaved + new,
    )
    return state, fates


def counted(
    state: SourceState, frame: pl.DataFrame, fates: Fates, settings: Settings, *, replay: bool
) -> SourceState:
    """With the events of a batch that was decided."""
    accepted = fates.verdict == fate.ACCEPTED
    if not accepted.any():
        return state
    events = settings.plan.events(frame, accepted, settings.identifiable)
    return added(state, events, settings.plan, replay=replay)


def _firsts(frame: pl.DataFrame) -> list[tuple[int, int, int]]:
    """Of each partition: its first offset and last append time."""
    partition = frame["partition"].to_numpy()
    starts = np.flatnonzero(np.diff(partition, prepend=-1))
    ends = np.r_[starts[1:], len(partition)] - 1
    offset, appended = frame["offset"].to_numpy(), frame["append_time"].to_numpy()
    return list(
        zip(
            partition[starts].tolist(),
            offset[starts].tolist(),
            appended[ends].tolist() if len(ends) else [],
            strict=True,
        )
    )


def added(
    state: SourceState, events: Events, plan: Plan, *, replay: bool = False, sketched: bool = True
) -> SourceState:
    """With accepted events; `sketched`: users are to be counted in hours and days as well."""
    since: dict[str, dict[int, int]] = {}
    for number, clock in state.clocks.items():
        for version, begun in clock.since.items():
            since.setdefault(version, {})[number] = begun
    addition = plan.addition(events, since)
    partition, start = events.partition, events.minute * MINUTE_MS

    new = (~state.rows.has(addition.key)).nonzero()[0]
    grain, row = addition.grain[new], addition.row[new]
    dimensions = plan.dimension_texts(events, grain, row)
    rows = state.rows.add(
        addition.key[new], partition[row], grain.astype(np.int32), start[row], dimensions
    )

    entries = [(addition.entry_key, addition.entry_slot, addition.entry_value)]
    seen, overlay = state.seen, state.overlay
    if len(addition.user_key):
        pair = combine(addition.user_key, events.user[addition.user_row])
        first = once(pair)
        first = first[~seen.has(pair[first])]
        pair = pair[first]
        if len(first):
            at = addition.user_row[first]
            key, slot = addition.user_key[first], addition.user_slot[first]
            seen = seen.add(pair, partition[at], start[at])
            entries.append((key, slot, np.ones(len(first), np.int64)))
            if sketched:
                users = events.frame["user_key"].gather(at).alias("user")
                overlay = (*overlay, pl.DataFrame([pl.Series("key", key), users]))
    added = state.entries.add(*map(np.concatenate, zip(*entries, strict=True)))
    # What is read again has gone out before, but not under a version that begins now.
    news = addition.key
    if replay:
        news = news[np.isin(addition.grain, [plan.numbers[version] for version in since])]
    return replace(
        state,
        rows=rows,
        entries=added,
        seen=seen,
        dirty=(*state.dirty, news) if len(news) else state.dirty,
        overlay=overlay,
    )


def idle_ticks(state: SourceState, now_ms: int, idle_ms: int = 5_000) -> dict[int, int]:
    """Timestamps of the ticks to append to partitions that had no record for `idle_ms`.

    Time goes on as the wall clock does since the last record; a partition that never had one
    takes the least watermark of the others.
    """
    known = [clock.watermark for clock in state.clocks.values() if clock.watermark != NONE]
    ticks = {}
    for partition, clock in state.clocks.items():
        if clock.watermark == NONE:
            if known:
                ticks[partition] = min(known)
        elif now_ms - clock.appended >= idle_ms:
            ticks[partition] = clock.watermark + now_ms - clock.appended
    return ticks


def resumed(
    state: SourceState, partition: int, offset: int, metadata: str, settings: Settings
) -> SourceState:
    """With a partition that is to be read again from its clock's checkpoint."""
    clock = Clock.resumed(offset, metadata, settings.plan.numbers)
    return replace(state, clocks={**state.clocks, partition: clock})


def restored(
    state: SourceState,
    sketches: Mapping[Place, Sketch],
    originals: Iterable[Original],
) -> SourceState:
    """With what the changelog holds of partitions that have been resumed."""
    kept = {(o.partition, o.offset): o for o in originals}
    unread = [o for o in kept.values() if o.offset < state.clocks[o.partition].checkpoints[0][0]]
    return replace(
        state,
        ids=fate.with_originals(state.ids, unread),
        sketches={**state.sketches, **sketches},
        originals={**state.originals, **kept},
    )


def without(state: SourceState, partitions: set[int]) -> SourceState:
    """Without these partitions."""

    def others(run: Run, column: int) -> Array:
        return ~np.isin(run.columns[column], list(partitions))

    rows = state.rows.keep(lambda run: others(run, 0))
    live = Live(rows)
    return SourceState(
        clocks={p: clock for p, clock in state.clocks.items() if p not in partitions},
        ids=state.ids.keep(lambda run: others(run, 3)),
        rows=rows,
        entries=state.entries.keep(lambda run: live.has(run.key)),
        seen=state.seen.keep(lambda run: others(run, 0)),
        dirty=tuple(keys[live.has(keys)] for keys in state.dirty),
        overlay=tuple(f.filter(pl.Series(live.has(f["key"].to_numpy()))) for f in state.overlay),
        sketches={p: s for p, s in state.sketches.items() if p.partition not in partitions},
        originals={k: o for k, o in state.originals.items() if o.partition not in partitions},
        unsaved=tuple(o for o in state.unsaved if o.partition not in partitions),
    )


class Live:
    """The keys that rows have."""

    def __init__(self, rows: Runs) -> None:
        self._keys = np.sort(np.concatenate([np.zeros(1, np.uint64), *(r.key for r in rows.runs)]))

    def has(self, keys: Array) -> Array:
        return among(keys, self._keys)
