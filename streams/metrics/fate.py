"""What decides an event's fate: from the future, a duplicate, late, or accepted.

Per source partition, in order of offsets, and by nothing but the log itself:

    future     timestamp > append_time + 5 min
    duplicate  an earlier accepted event has the same event_id, and its timestamp >= wm - L
    late       timestamp < wm - L
    accepted   everything else

wm, the watermark, is the greatest timestamp of earlier accepted events and ticks of the
partition; none before the first. A tick is never later than its append_time: the clock of the
worker that wrote it may be wrong, and one tick a day ahead would make all that follows late. L is
the lateness.

The fast path is exact while equal ids have equal timestamps: then neither a duplicate nor a late
event can raise the watermark, so the running maximum over everything but the future is the
watermark, and the first of several equal ids is the accepted one. A partition in which an id comes
again with another timestamp is decided one record after the other.

Upstream: `source.py`. Invariants: the same records give the same fates however they are batched;
ids are known by 96 bits of hashes: two different ones are taken for one in 10^13 years.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from streamgauge.schemas.records import MARKER_TIME
from streamgauge.streams.metrics.keys import combine, ordering
from streamgauge.streams.metrics.runs import Runs

Array = np.ndarray

NONE = -(2**62)
"""No watermark yet; smaller than every time, even less a lateness."""

FUTURE_MS = 300_000
TICK = "tick"

ACCEPTED, DUPLICATE, LATE, FUTURE, IS_TICK, EXCLUDED = range(6)
"""EXCLUDED is not decided here: accepted, but of a user whom a policy leaves out of metrics."""

# Columns of the ids' runs: timestamp, second hash, offset, partition.
ID_DTYPES = (np.int64, np.uint32, np.int64, np.int32)


@dataclass(frozen=True, kw_only=True)
class Original:
    """An accepted event whose id came again with another timestamp."""

    partition: int
    offset: int
    timestamp: int
    event_id: str


@dataclass(frozen=True, kw_only=True)
class Fates:
    """Row by row as in the frame."""

    verdict: Array
    """ACCEPTED, DUPLICATE, ..."""
    watermark: Array
    """Before the record; NONE before the first."""
    watermarks: Mapping[int, int]
    """By partition, after the batch."""
    ids: Runs
    originals: tuple[Original, ...]


def no_ids() -> Runs:
    return Runs(dtypes=ID_DTYPES)


def with_originals(ids: Runs, originals: list[Original]) -> Runs:
    """With the ids of events that are not read again."""
    names = pl.Series([original.event_id for original in originals], dtype=pl.String)
    partition = np.array([original.partition for original in originals], np.int32)
    key, check = _key(names.hash(0), partition), _check(names.hash(1))
    timestamp = np.array([original.timestamp for original in originals], np.int64)
    offset = np.array([original.offset for original in originals], np.int64)
    return ids.add(key, timestamp, check, offset, partition)


def decide(frame: pl.DataFrame, watermarks: Mapping[int, int], ids: Runs, lateness: int) -> Fates:
    """The fate of each record; the frame is sorted by (partition, offset)."""
    log = _Log.of(frame)
    watermark, after = _running_maximum(log, watermarks)
    verdict = np.where(log.is_tick, IS_TICK, np.where(log.future, FUTURE, ACCEPTED)).astype(np.int8)

    events = np.flatnonzero(verdict == ACCEPTED)
    events = events[ordering(log.key[events])]
    timestamp = log.timestamp[events]
    prior = _latest(ids, log.key[events], log.check[events])
    repeated, odd = _repeats(log.key[events], log.check[events], timestamp)
    odd |= (prior != NONE) & (prior != timestamp)
    late = timestamp < watermark[events] - lateness
    verdict[events[repeated | (prior != NONE)]] = DUPLICATE
    verdict[events[late]] = LATE

    originals: list[Original] = []
    for partition in np.unique(log.partition[events[odd]]).tolist():
        start = watermarks.get(partition, NONE)
        after[partition] = _one_by_one(
            log, partition, start, ids, lateness, verdict, watermark, originals
        )

    accepted = events[verdict[events] == ACCEPTED]  # sorted by key, as they are kept
    columns = (log.timestamp, log.check, log.offset, log.partition)
    return Fates(
        verdict=verdict,
        watermark=watermark,
        watermarks={**watermarks, **after},
        ids=ids.add(log.key[accepted], *(column[accepted] for column in columns)),
        originals=tuple(originals),
    )


@dataclass(frozen=True, kw_only=True)
class _Log:
    """A frame's columns as arrays."""

    partition: Array
    offset: Array
    timestamp: Array
    is_tick: Array
    future: Array
    event_id: pl.Series
    key: Array
    check: Array

    @staticmethod
    def of(frame: pl.DataFrame) -> _Log:
        partition = frame["partition"].to_numpy()
        timestamp, append_time = frame["timestamp"].to_numpy(), frame["append_time"].to_numpy()
        read = frame.select(
            is_tick=pl.col("event_type") == TICK,
            first=pl.col("event_id").hash(0),
            second=pl.col("event_id").hash(1),
        )
        is_tick = read["is_tick"].to_numpy()
        return _Log(
            partition=partition,
            offset=frame["offset"].to_numpy(),
            timestamp=np.where(is_tick, _passed(timestamp, append_time), timestamp),
            is_tick=is_tick,
            future=(timestamp > append_time + FUTURE_MS) & ~is_tick,
            event_id=frame["event_id"],
            key=_key(read["first"], partition),
            check=_check(read["second"]),
        )


def _passed(timestamp: Array, append_time: Array) -> Array:
    """The time that ticks say has come; their writer's clock may err."""
    return np.where(timestamp == MARKER_TIME, NONE, np.minimum(timestamp, append_time))


def _key(hashes: pl.Series, partition: Array) -> Array:
    """An id's place in the runs."""
    return combine(hashes.to_numpy(), partition)


def _check(hashes: pl.Series) -> Array:
    """What must be equal as well."""
    return hashes.to_numpy().astype(np.uint32)


def _running_maximum(log: _Log, before: Mapping[int, int]) -> tuple[Array, dict[int, int]]:
    """The watermark before each record, and after the last of each partition."""
    candidate = np.where(log.future, NONE, log.timestamp)
    watermark = np.empty(len(candidate), np.int64)
    after = {}
    starts = np.flatnonzero(np.diff(log.partition, prepend=-1)).tolist()
    for start, end in zip(starts, [*starts[1:], len(candidate)], strict=True):
        partition = int(log.partition[start])
        first = before.get(partition, NONE)
        running = np.maximum(np.maximum.accumulate(candidate[start:end]), first)
        watermark[start], watermark[start + 1 : end] = first, running[:-1]
        after[partition] = int(running[-1])
    return watermark, after


def _latest(ids: Runs, key: Array, check: Array) -> Array:
    """The greatest timestamp accepted for each id; NONE for a new one."""
    which, (timestamp, checks, _, _) = ids.find(key)
    same = checks == check[which]
    latest = np.full(len(key), NONE)
    np.maximum.at(latest, which[same], timestamp[same])
    return latest


def _repeats(key: Array, check: Array, timestamp: Array) -> tuple[Array, Array]:
    """Of records sorted by key: which has an equal one before it, and which an odd one.

    Odd: the key is that of its neighbour, and timestamp or second hash are not.
    """
    same = key[1:] == key[:-1]
    unequal = (timestamp[1:] != timestamp[:-1]) | (check[1:] != check[:-1])
    repeated = np.zeros(len(key), bool)
    odd = np.zeros(len(key), bool)
    repeated[1:], odd[1:] = same, same & unequal
    return repeated, odd


def _one_by_one(
    log: _Log,
    partition: int,
    watermark: int,
    ids: Runs,
    lateness: int,
    verdicts: Array,
    watermarks: Array,
    originals: list[Original],
) -> int:
    """Decide a partition's records in order, into the arrays; returns the watermark after."""
    rows = np.flatnonzero(log.partition == partition)
    known: dict[tuple[int, int], tuple[int, int]] = {}  # id -> (timestamp, offset), the latest
    which, (times, checks, offsets, _) = ids.find(log.key[rows])
    for row, time, check, offset in zip(
        rows[which].tolist(), times.tolist(), checks.tolist(), offsets.tolist(), strict=True
    ):
        name = int(log.key[row]), check
        known[name] = max(known.get(name, (NONE, 0)), (time, offset))
    for row, time, key, check, offset in zip(
        *(
            a.tolist()
            for a in (rows, log.timestamp[rows], log.key[rows], log.check[rows], log.offset[rows])
        ),
        strict=True,
    ):
        watermarks[row] = watermark
        if verdicts[row] == FUTURE:
            continue
        if verdicts[row] != IS_TICK:
            earlier, at = known.get((key, check), (NONE, 0))
            if earlier >= max(watermark - lateness, NONE + 1):
                verdicts[row] = DUPLICATE
                if earlier != time:
                    originals.append(
                        Original(
                            partition=partition,
                            offset=at,
                            timestamp=earlier,
                            event_id=log.event_id[row],
                        )
                    )
                continue
            if time < watermark - lateness:
                verdicts[row] = LATE
                continue
            verdicts[row] = ACCEPTED
            known[key, check] = max((earlier, at), (time, offset))
        watermark = max(watermark, time)
    return watermark
