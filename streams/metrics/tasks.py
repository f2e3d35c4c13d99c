"""Both stages of the metrics as tasks of the engine: bytes in, bytes out.

Upstream: the engine, see `streams.engine.task`. Downstream: the topics of `schemas.topics`. What
is computed is elsewhere in this folder; here are state and its stable copy, encoding, and
throttling, which is all that the clock is for.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import polars as pl

from streamgauge.schemas.codec import Codec
from streamgauge.schemas.consent import ConsentDefault
from streamgauge.schemas.consent_columns import identifiable_rows
from streamgauge.schemas.encoder import Encoder
from streamgauge.schemas.metric_records import MetricPartial, MetricRollup, UserSketch
from streamgauge.schemas.metrics import Definitions
from streamgauge.schemas.records import DeadLetter, LateEvent, MetricUpdate, Tick
from streamgauge.schemas.registry import Registry
from streamgauge.schemas.topics import (
    DEAD_LETTERS,
    EVENTS,
    LATE_EVENTS,
    METRIC_PARTIALS,
    METRIC_ROLLUPS,
    METRIC_USERS,
    METRICS,
)
from streamgauge.streams.engine.task import Batch, Output, Task
from streamgauge.streams.metrics import emission, fate, merge, source, updates
from streamgauge.streams.metrics.fate import Fates, Original
from streamgauge.streams.metrics.plan import Plan
from streamgauge.streams.metrics.sketches import Place, Sketch

USERS_EVERY = 2.0
"""Seconds between two writes of the distinct users of hours and days."""

LONGER_EVERY = 3.0
"""Seconds between two writes of hours and days."""

LATENESS_MS = 3_600_000


class MetricSource(Task):
    """Events to partials, late events and dead letters."""

    topic = EVENTS.name
    changelogs = (METRIC_USERS.name,)

    def __init__(
        self,
        definitions: Definitions,
        registry: Registry,
        *,
        partitions: int,
        lateness_ms: int = LATENESS_MS,
        consent_default: ConsentDefault = "granted",
        tick_after_ms: int = 5_000,
    ) -> None:
        """`partitions`: of metric-partials, which has as many as every topic of ours."""
        self._tick_after = tick_after_ms
        self._plan = Plan(definitions)
        self.columns = self._plan.columns
        self._partitions = partitions
        self._settings = source.Settings(
            plan=self._plan,
            lateness=lateness_ms,
            identifiable=identifiable_rows(consent_default),
        )
        self._codec = Codec(registry)
        self._partials = Encoder(registry, METRIC_PARTIALS.name, MetricPartial)
        self._late = Encoder(registry, LATE_EVENTS.name, LateEvent)
        self._dead = Encoder(registry, DEAD_LETTERS.name, DeadLetter)
        self._sketches = Encoder(registry, METRIC_USERS.name, UserSketch)
        self._stable = self._state = source.SourceState()
        self._outputs: list[Output] = []
        self._changelog: dict[int, dict[bytes, bytes | None]] = {}
        self._users_at = float("-inf")
        #: Committed records by (partition, fate): accepted, duplicate, late, future, tick.
        self.fates: Counter[tuple[int, str]] = Counter()
        self._new_fates: Counter[tuple[int, str]] = Counter()

    @property
    def settled(self) -> bool:  # type: ignore[override]
        return self._state.settled

    def process(self, batch: Batch) -> None:
        if not batch.frame.height:
            return
        state, fates = source.step(self._state, batch.frame, self._settings)
        outputs = [self._late_events(batch, fates), self._future(batch, fates)]
        self._state = state
        self._outputs += [output for output in outputs if output.keys]
        partition = batch.frame["partition"].to_numpy()
        pairs, counts = np.unique(partition * len(FATES) + fates.verdict, return_counts=True)
        for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
            self._new_fates[pair // len(FATES), FATES[pair % len(FATES)]] += count

    def flush(self, now: float) -> Iterable[Output]:
        due = now >= self._users_at + USERS_EVERY
        self._state, emitted = emission.flush(self._state, self._settings, users_due=due)
        if due:
            self._users_at = now
        yield from self._outputs
        yield self._values(emitted)
        yield self._watermarks(emitted)
        yield self._saved(emitted)

    def commit(self) -> None:
        self._stable, self._outputs = self._state, []
        self.fates += self._new_fates
        self._new_fates.clear()

    def abort(self) -> None:
        self._state, self._outputs = self._stable, []
        self._new_fates.clear()
        self._users_at = float("-inf")

    def metadata(self, partition: int) -> str:
        clock = self._state.clocks.get(partition)
        return clock.metadata(self._plan.numbers) if clock else ""

    def resume_from(self, partition: int, offset: int, metadata: str) -> int:
        self._state = source.resumed(self._state, partition, offset, metadata, self._settings)
        return self._state.clocks[partition].checkpoints[0][0]

    def restore(
        self, changelog: str, keys: list[bytes], values: list[bytes | None], partition: int
    ) -> None:
        self._changelog.setdefault(partition, {}).update(zip(keys, values, strict=True))

    def replay(self, batch: Batch) -> None:
        self._restore_changelog()
        if batch.frame.height:
            self._state, _ = source.step(self._state, batch.frame, self._settings, replay=True)

    def restored(self, partitions: set[int]) -> None:
        self._restore_changelog()
        self._state = emission.forgotten(self._state, partitions, self._settings)

    def revoke(self, partitions: set[int]) -> None:
        same = self._state is self._stable
        self._stable = source.without(self._stable, partitions)
        self._state = self._stable if same else source.without(self._state, partitions)
        for partition in partitions:
            self._changelog.pop(partition, None)

    def ticks(self, now_ms: int, idle: set[int]) -> Iterable[Output]:
        ticks = source.idle_ticks(self._state, now_ms, self._tick_after)
        for partition, timestamp in ticks.items():
            if partition in idle:
                value = self._codec.encode(EVENTS.name, Tick(timestamp=timestamp))
                yield Output(topic=EVENTS.name, keys=[None], values=[value], partitions=partition)

    def _restore_changelog(self) -> None:
        """Sketches and ids, once all of the changelog is there."""
        if not self._changelog:
            return
        sketches: dict[Place, Sketch] = {}
        originals = []
        for partition, rows in self._changelog.items():
            for value in rows.values():
                if value is None:
                    continue
                row = self._codec.decode(value).record
                if row["event_id"] is not None:
                    original = Original(
                        partition=partition,
                        offset=row["offset"],
                        timestamp=row["timestamp"],
                        event_id=row["event_id"],
                    )
                    originals.append(original)
                elif row["version"] in self._plan.numbers:
                    place = Place(
                        partition,
                        row["window_size"],
                        row["window_start"],
                        row["version"],
                        row["dimensions"],
                    )
                    # Whether its number went out is not known: it goes out again.
                    sketches[place] = Sketch(data=row["sketch"], emitted=False, saved=True)
        self._changelog = {}
        self._state = source.restored(self._state, sketches, originals)

    def _late_events(self, batch: Batch, fates: Fates) -> Output:
        late = np.flatnonzero(fates.verdict == fate.LATE)
        rows = batch.frame[late]
        messages = [batch.messages[index] for index in rows["index"]]
        values = [message.value() or b"" for message in messages]
        table = rows.select(
            pl.lit(EVENTS.name).alias("topic"),
            pl.col("partition").cast(pl.Int64),
            *("offset", "event_id", "event_type", pl.col("user_key").alias("user_id"), "timestamp"),
            pl.Series("watermark", fates.watermark[late], pl.Int64),
            pl.Series("schema_id", [_schema_id(value) for value in values], pl.Int64),
            pl.Series("payload", values, pl.Binary),
        )
        return Output(topic=LATE_EVENTS.name, keys=_places(rows), values=self._late.encode(table))

    def _future(self, batch: Batch, fates: Fates) -> Output:
        rows = batch.frame[np.flatnonzero(fates.verdict == fate.FUTURE)]
        messages = [batch.messages[index] for index in rows["index"]]
        values = [message.value() or b"" for message in messages]
        ahead = pl.format(
            "timestamp is {} ms after the record was appended: the sender's clock is wrong",
            pl.col("timestamp") - pl.col("append_time"),
        )
        table = rows.select(
            pl.lit(EVENTS.name).alias("topic"),
            pl.col("partition").cast(pl.Int64),
            "offset",
            pl.Series("schema_id", [_schema_id(value) for value in values], pl.Int64),
            pl.lit("future").alias("reason"),
            ahead.alias("detail"),
            pl.Series("payload", values, pl.Binary),
            pl.Series("key", [message.key() for message in messages], pl.Binary),
            pl.col("append_time").alias("failed_at"),
        )
        return Output(topic=DEAD_LETTERS.name, keys=_places(rows), values=self._dead.encode(table))

    def _values(self, emitted: emission.Emission) -> Output:
        versions = [grain.version for grain in self._plan.grains]
        rows: list[tuple[Any, ...]] = [
            (partition, "1m", start, versions[grain], dimensions, parts, None)
            for partition, grain, start, dimensions, parts in emitted.minutes
        ]
        rows += [(*place, None, users) for place, users in emitted.users]
        table = pl.DataFrame(rows, schema=_VALUES, orient="row")
        return Output(
            topic=METRIC_PARTIALS.name,
            keys=[f"{p}|{s}|{at}|{v}|{d}".encode() for p, s, at, v, d, *_ in rows],
            values=self._partials.encode(table),
            partitions=[partition_of(v, d, self._partitions) for _, _, _, v, d, *_ in rows],
        )

    def _watermarks(self, emitted: emission.Emission) -> Output:
        """Each one to every partition, after the values that it closes."""
        table = pl.DataFrame(
            emitted.watermarks,
            schema={"source_partition": pl.Int64, "watermark": pl.Int64, "since": pl.String},
            orient="row",
        )
        keys = [f"{partition}|watermark".encode() for partition, *_ in emitted.watermarks]
        every = range(self._partitions)
        return Output(
            topic=METRIC_PARTIALS.name,
            keys=keys * self._partitions,
            values=self._partials.encode(table) * self._partitions,
            partitions=[partition for partition in every for _ in keys],
        )

    def _saved(self, emitted: emission.Emission) -> Output:
        """Rows of the changelog, in the partition of the events that they come from."""
        rows: list[tuple[Any, ...]] = [
            (*place, sketch, None, None, None) for place, sketch in emitted.sketches
        ]
        rows += [
            (o.partition, None, None, None, None, None, o.event_id, o.timestamp, o.offset)
            for o, _ in emitted.originals
        ]
        keys = ["|".join(map(str, place)) for place, _ in emitted.sketches]
        keys += [f"{o.partition}|id|{o.offset}" for o, _ in emitted.originals]
        kept = [sketch is not None for _, sketch in emitted.sketches]
        kept += [needed for _, needed in emitted.originals]
        values = self._sketches.encode(pl.DataFrame(rows, schema=_SAVED, orient="row"))
        return Output(
            topic=METRIC_USERS.name,
            keys=[key.encode() for key in keys],
            values=[value if keep else None for value, keep in zip(values, kept, strict=True)],
            partitions=[row[0] for row in rows],
        )


class MetricMerge(Task):
    """Partials to metrics."""

    topic = METRIC_PARTIALS.name
    changelogs = (METRIC_ROLLUPS.name,)

    def __init__(
        self,
        definitions: Definitions,
        registry: Registry,
        *,
        source_partitions: int,
        lateness_ms: int = LATENESS_MS,
    ) -> None:
        """`source_partitions`: of events; all must have reported for a window to be final."""
        self._plan = Plan(definitions)
        self._settings = merge.Settings(
            plan=self._plan, lateness=lateness_ms, sources=source_partitions
        )
        self._codec = Codec(registry)
        self._updates = Encoder(registry, METRICS.name, MetricUpdate)
        self._rollups = Encoder(registry, METRIC_ROLLUPS.name, MetricRollup)
        self._stable = self._state = merge.MergeState()
        self._changelog: dict[int, dict[bytes, bytes | None]] = {}
        self._longer_at = float("-inf")

    @property
    def settled(self) -> bool:  # type: ignore[override]
        return self._state.settled

    def process(self, batch: Batch) -> None:
        self._state = merge.step(self._state, batch.frame, self._settings)

    def flush(self, now: float) -> Iterable[Output]:
        due = now >= self._longer_at + LONGER_EVERY
        self._state, rows, rollups = updates.flush(self._state, self._settings, longer_due=due)
        if due:
            self._longer_at = now
        places = rows.select("window_size", "window_start", "version", "dimensions").rows()
        yield Output(
            topic=METRICS.name,
            keys=["|".join(map(str, place)).encode() for place in places],
            values=self._updates.encode(rows),
        )
        yield self._saved(rollups)

    def commit(self) -> None:
        self._stable = self._state

    def abort(self) -> None:
        self._state = self._stable
        self._longer_at = float("-inf")

    def metadata(self, partition: int) -> str:
        progress = self._state.progress.get(partition)
        return progress.metadata() if progress else ""

    def resume_from(self, partition: int, offset: int, metadata: str) -> int:
        self._state, start = merge.resumed(
            self._state, partition, offset, metadata, self._settings.sources
        )
        return start

    def restore(
        self, changelog: str, keys: list[bytes], values: list[bytes | None], partition: int
    ) -> None:
        self._changelog.setdefault(partition, {}).update(zip(keys, values, strict=True))

    def replay(self, batch: Batch) -> None:
        self._state = merge.step(self._state, batch.frame, self._settings, replay=True)

    def restored(self, partitions: set[int]) -> None:
        for partition, rows in self._changelog.items():
            rollups = [
                MetricRollup(**self._codec.decode(value).record)
                for value in rows.values()
                if value is not None
            ]
            self._state = merge.restored(self._state, partition, rollups, self._plan)
        self._changelog = {}

    def revoke(self, partitions: set[int]) -> None:
        same = self._state is self._stable
        self._stable = merge.without(self._stable, partitions)
        self._state = self._stable if same else merge.without(self._state, partitions)
        for partition in partitions:
            self._changelog.pop(partition, None)

    def _saved(self, rollups: list[updates.Rollup]) -> Output:
        rows = [
            (r.size, r.start, r.version, r.dimensions, r.parts, json.dumps(dict(r.users)))
            for r in rollups
        ]
        values = self._rollups.encode(pl.DataFrame(rows, schema=_ROLLUPS, orient="row"))
        return Output(
            topic=METRIC_ROLLUPS.name,
            keys=["|".join(map(str, row[:4])).encode() for row in rows],
            values=[None if r.closed else v for r, v in zip(rollups, values, strict=True)],
            partitions=[r.partition for r in rollups],
        )


FATES = ("accepted", "duplicate", "late", "future", "tick")

_VALUES: Mapping[str, Any] = {
    "source_partition": pl.Int64,
    "window_size": pl.String,
    "window_start": pl.Int64,
    "version": pl.String,
    "dimensions": pl.String,
    "parts": pl.Binary,
    "users": pl.Int64,
}
_SAVED: Mapping[str, Any] = {
    "source_partition": pl.Int64,
    "window_size": pl.String,
    "window_start": pl.Int64,
    "version": pl.String,
    "dimensions": pl.String,
    "sketch": pl.Binary,
    "event_id": pl.String,
    "timestamp": pl.Int64,
    "offset": pl.Int64,
}
_ROLLUPS: Mapping[str, Any] = {
    "window_size": pl.String,
    "window_start": pl.Int64,
    "version": pl.String,
    "dimensions": pl.String,
    "parts": pl.Binary,
    "users": pl.String,
}


def partition_of(version: str, dimensions: str, partitions: int) -> int:
    """Where the partials of a version and its dimensions meet, of all windows and sources."""
    return zlib.crc32(f"{version}|{dimensions}".encode()) % partitions


def _places(rows: pl.DataFrame) -> list[bytes]:
    return [f"{EVENTS.name}/{p}/{o}".encode() for p, o in rows.select("partition", "offset").rows()]


def _schema_id(value: bytes) -> int | None:
    return int.from_bytes(value[1:5], "big") if len(value) >= 5 else None
