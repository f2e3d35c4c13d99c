r"""Points: minutes of the watched metrics, as soon as they settle, as a branch of the first stage.

    end of a minute      + settle
    ──────|──────────────────|───────────> the partition's watermark
     events of the minute    |
     that come here count    └ the minute is done: one row a key, then how far the partition is

Metrics are final only after the lateness, which is too late for an alert. So an event counts here
if the watermark of its partition before it was less than `settle` past the end of its minute: that
is a function of the log, and so is the row.

Upstream: accepted events (`streams/branch.py`); the arithmetic is that of the metrics. Downstream:
`anomaly-points`, which `watch.py` adds up over the source partitions. There is no changelog: what
is open is read again, for it is younger than the horizon.

Invariants: a row is written once and never changes; a partition's rows come before the row that
says they are done; `settle` is at most the lateness.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl

from streamgauge.schemas.anomaly_records import AnomalyPoint
from streamgauge.schemas.consent import ConsentDefault
from streamgauge.schemas.consent_columns import identifiable_rows
from streamgauge.schemas.encoder import Encoder
from streamgauge.schemas.metrics import Definitions
from streamgauge.schemas.registry import Registry
from streamgauge.schemas.topics import ANOMALY_POINTS
from streamgauge.schemas.watched import SETTLE_MS
from streamgauge.streams import packing
from streamgauge.streams.branch import Accepted, Branch, Horizon
from streamgauge.streams.engine.task import Output
from streamgauge.streams.metrics import snapshots, source
from streamgauge.streams.metrics.clock import MINUTE_MS
from streamgauge.streams.metrics.fate import NONE
from streamgauge.streams.metrics.parts import Entries, combined, pack
from streamgauge.streams.metrics.plan import Plan
from streamgauge.streams.metrics.source import Live, SourceState

Array = np.ndarray

FORMAT = 1
_SCHEMA: Mapping[str, Any] = {
    "source_partition": pl.Int64,
    "version": pl.String,
    "window_start": pl.Int64,
    "dimensions": pl.String,
    "parts": pl.Binary,
    "since": pl.Int64,
    "done": pl.Int64,
}


@dataclass(frozen=True, kw_only=True)
class State:
    """Open minutes, and how far each source partition is; never changed in place."""

    minutes: SourceState = field(default_factory=SourceState)
    watermarks: Mapping[int, int] = field(default_factory=dict)
    told: Mapping[int, int] = field(default_factory=dict)
    """The end of the last minute that was said to be done."""


class PointsBranch(Branch):
    """Accepted events to rows of `anomaly-points`."""

    def __init__(
        self,
        watched: Definitions,
        registry: Registry,
        *,
        partitions: int,
        lateness_ms: int,
        consent_default: ConsentDefault = "granted",
        settle_ms: int = SETTLE_MS,
    ) -> None:
        """`partitions` of anomaly-points."""
        self._plan = Plan(watched)
        self.columns = self._plan.columns
        self._settle = min(settle_ms, lateness_ms)
        self._identifiable = identifiable_rows(consent_default)
        self._partitions = partitions
        versions = [grain.version for grain in self._plan.grains]
        self.identity = snapshots.identity(versions, "points", FORMAT, self._settle)
        self._encoder = Encoder(registry, ANOMALY_POINTS.name, AnomalyPoint)
        self._stable = self._state = State()

    def process(self, accepted: Accepted) -> None:
        self._state = self._advanced(self._state, accepted)

    replay = process

    def _advanced(self, state: State, accepted: Accepted) -> State:
        watermarks = {**state.watermarks, **accepted.watermarks}
        accepted = accepted.counted()
        frame = accepted.frame
        if frame.height and self._plan.grains:
            timestamp = frame["timestamp"].to_numpy()
            end = timestamp // MINUTE_MS * MINUTE_MS + MINUTE_MS
            prompt = accepted.watermark < end + self._settle
            if prompt.any():
                events = self._plan.events(frame, prompt, self._identifiable)
                minutes = source.added(state.minutes, events, self._plan, sketched=False)
                state = replace(state, minutes=replace(minutes, dirty=()))
        return replace(state, watermarks=watermarks)

    def _done(self, state: State) -> dict[int, int]:
        """The end of the last minute that is done, by partition."""
        return {
            partition: (watermark - self._settle) // MINUTE_MS * MINUTE_MS
            for partition, watermark in state.watermarks.items()
            if watermark != NONE
        }

    def flush(self, now: float, horizons: Mapping[int, Horizon]) -> Iterable[Output]:
        state = self._state
        done = self._done(state)
        further = {p: end for p, end in done.items() if end > state.told.get(p, NONE)}
        if not further:
            return
        bounds = _by_partition(further, max(done))
        rows = self._rows(state, bounds)
        rows += [
            (partition, grain.version, None, None, None, state.told.get(partition), end)
            for partition, end in sorted(further.items())
            for grain in self._plan.grains
        ]
        self._state = replace(
            state, minutes=_after(state.minutes, bounds), told={**state.told, **further}
        )
        values = self._encoder.encode(pl.DataFrame(rows, schema=_SCHEMA, orient="row"))
        placed = [
            (place, _key(row), value)
            for row, value in zip(rows, values, strict=True)
            for place in self._places(row)
        ]
        yield Output(
            topic=ANOMALY_POINTS.name,
            keys=[key for _, key, _ in placed],
            values=[value for *_, value in placed],
            partitions=[place for place, *_ in placed],
        )

    def _places(self, row: tuple[Any, ...]) -> Iterable[int]:
        """A row goes where its series is watched; how far a partition is, everywhere."""
        if row[2] is None:
            return range(self._partitions)
        return (place_of(row[3], self._partitions),)

    def _rows(self, state: State, bounds: Array) -> list[tuple[Any, ...]]:
        """Of the minutes that are done; keys of the table, sorted by what they mean."""
        done = state.minutes.rows.where(lambda run: _is_done(run.columns, bounds))
        if not len(done.key):
            return []
        order = np.argsort(done.key)
        key = done.key[order]
        partition, grain, start, dimensions = (column[order].tolist() for column in done.columns)
        row, (slot, value) = state.minutes.entries.find(key)
        packed = pack(combined(Entries(row, slot, value)), len(key))
        versions = [self._plan.grains[number].version for number in grain]
        table = zip(partition, versions, start, dimensions, packed, strict=True)
        return sorted((*row, None, None) for row in table if row[-1])

    def commit(self) -> None:
        self._stable = self._state

    def abort(self) -> None:
        self._state = self._stable

    def restored(self, partitions: set[int]) -> None:
        """Everything that was done at the commit had been written."""
        done = {p: end for p, end in self._done(self._state).items() if p in partitions}
        if done:
            self._state = replace(
                self._state,
                minutes=_after(self._state.minutes, _by_partition(done, max(done))),
                told={**self._state.told, **done},
            )

    def revoke(self, partitions: set[int]) -> None:
        same = self._state is self._stable
        self._stable = _without(self._stable, partitions)
        self._state = self._stable if same else _without(self._state, partitions)

    def snapshot(self) -> Callable[[int], bytes]:
        state = self._stable

        def of(partition: int) -> bytes:
            mine = source.without(state.minutes, {p for p in state.watermarks if p != partition})
            tables = {name: snapshots.table(getattr(mine, name)) for name in _TABLES}
            content = state.watermarks.get(partition), state.told.get(partition)
            return packing.packed(tables, content)

        return of

    def load(self, partition: int, snapshot: memoryview) -> bool:
        frames, (watermark, told) = packing.unpacked(snapshot)
        state = self._state
        minutes = state.minutes
        self._state = State(
            minutes=replace(
                minutes,
                rows=snapshots.added(minutes.rows, frames["rows"]),
                entries=snapshots.added(minutes.entries, frames["entries"]),
                seen=snapshots.added(minutes.seen, frames["seen"]),
            ),
            watermarks=_with(state.watermarks, partition, watermark),
            told=_with(state.told, partition, told),
        )
        return True


_TABLES = ("rows", "entries", "seen")


def place_of(dimensions: str, partitions: int) -> int:
    """Where all of a series meets, whatever the version of its definition."""
    return zlib.crc32(dimensions.encode()) % partitions


def _with(known: Mapping[int, int], partition: int, value: int | None) -> Mapping[int, int]:
    return known if value is None else {**known, partition: value}


def _key(row: tuple[Any, ...]) -> bytes:
    partition, version, start, dimensions, *_ = row
    if start is None:
        return f"{partition}|progress|{version}".encode()
    return f"{partition}|{start}|{version}|{dimensions}".encode()


def _by_partition(ends: Mapping[int, int], last: int) -> Array:
    bounds = np.full(last + 1, NONE)
    for partition, end in ends.items():
        bounds[partition] = end
    return bounds


def _is_done(columns: tuple[Array, ...], bounds: Array) -> Array:
    known = columns[0] < len(bounds)
    partition = np.where(known, columns[0], 0)
    return known & (columns[2] + MINUTE_MS <= bounds[partition])


def _after(minutes: SourceState, bounds: Array) -> SourceState:
    """Without the minutes that are done."""
    rows = minutes.rows.keep(lambda run: ~_is_done(run.columns, bounds))
    live = Live(rows)
    seen = minutes.seen.keep(
        lambda run: ~_is_done((run.columns[0], run.columns[0], run.columns[1]), bounds)
    )
    return replace(
        minutes,
        rows=rows,
        entries=minutes.entries.keep(lambda run: live.has(run.key)),
        seen=seen,
    )


def _without(state: State, partitions: set[int]) -> State:
    return State(
        minutes=source.without(state.minutes, partitions),
        watermarks={p: wm for p, wm in state.watermarks.items() if p not in partitions},
        told={p: end for p, end in state.told.items() if p not in partitions},
    )
