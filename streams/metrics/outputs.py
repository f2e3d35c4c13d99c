"""What the metrics' stages write, as bytes for the topics.

Upstream: `emission.py` and `updates.py`. Downstream: `tasks.py` hands it to the engine. Partials
go to a partition by the version and dimensions alone, so all that is added up meets in one.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import polars as pl

from streamgauge.schemas import control_checks
from streamgauge.schemas.encoder import Encoder
from streamgauge.schemas.metric_records import MetricPartial, MetricRollup, UserSketch
from streamgauge.schemas.records import DeadLetter, LateEvent, MetricUpdate
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
from streamgauge.streams.engine.task import Batch, Output
from streamgauge.streams.metrics import fate
from streamgauge.streams.metrics.emission import Emission
from streamgauge.streams.metrics.fate import Fates
from streamgauge.streams.metrics.fold import Rollup
from streamgauge.streams.metrics.plan import KNOWN_TEXTS

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


class SourceOutputs:
    """Rows of the first stage."""

    def __init__(self, registry: Registry, versions: Sequence[str], partitions: int) -> None:
        """`versions` of the grains, by their numbers; `partitions` of metric-partials."""
        self._versions, self._partitions = versions, partitions
        self._partials = Encoder(registry, METRIC_PARTIALS.name, MetricPartial)
        self._late = Encoder(registry, LATE_EVENTS.name, LateEvent)
        self._dead = Encoder(registry, DEAD_LETTERS.name, DeadLetter)
        self._sketches = Encoder(registry, METRIC_USERS.name, UserSketch)

    def late_events(self, batch: Batch, fates: Fates) -> Output:
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

    def future(self, batch: Batch, fates: Fates) -> Output:
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

    def invalid_controls(self, batch: Batch, problems: Mapping[tuple[int, int], str]) -> Output:
        """Definitions that cannot be used, by partition and offset."""
        places = zip(
            batch.frame["partition"].to_list(), batch.frame["offset"].to_list(), strict=True
        )
        rows = batch.frame[[at for at, place in enumerate(places) if place in problems]]
        messages = [batch.messages[index] for index in rows["index"]]
        values = [message.value() or b"" for message in messages]
        details = [problems[place] for place in rows.select("partition", "offset").iter_rows()]
        table = rows.select(
            pl.lit(EVENTS.name).alias("topic"),
            pl.col("partition").cast(pl.Int64),
            "offset",
            pl.Series("schema_id", [_schema_id(value) for value in values], pl.Int64),
            pl.lit(control_checks.REASON).alias("reason"),
            pl.Series("detail", details, pl.String),
            pl.Series("payload", values, pl.Binary),
            pl.Series("key", [message.key() for message in messages], pl.Binary),
            pl.col("append_time").alias("failed_at"),
        )
        return Output(topic=DEAD_LETTERS.name, keys=_places(rows), values=self._dead.encode(table))

    def values(self, emitted: Emission) -> Output:
        versions = self._versions
        rows: list[tuple[Any, ...]] = [
            (partition, "1m", start, versions[grain], dimensions, parts, None)
            for partition, grain, start, dimensions, parts in emitted.minutes
        ]
        rows += [(*place, None, users) for place, users in emitted.users]
        # Column by column: rows as they are would have every value looked at for its type.
        columns = zip(*rows, strict=True) if rows else [()] * len(_VALUES)
        table = pl.DataFrame(
            [
                pl.Series(name, values, kind)
                for (name, kind), values in zip(_VALUES.items(), columns, strict=True)
            ]
        )
        return Output(
            topic=METRIC_PARTIALS.name,
            keys=[f"{p}|{s}|{at}|{v}|{d}".encode() for p, s, at, v, d, *_ in rows],
            values=self._partials.encode(table),
            partitions=[partition_of(v, d, self._partitions) for _, _, _, v, d, *_ in rows],
        )

    def watermarks(self, emitted: Emission) -> Output:
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

    def saved(self, emitted: Emission) -> Output:
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


class MergeOutputs:
    """Rows of the second stage."""

    def __init__(self, registry: Registry) -> None:
        self._updates = Encoder(registry, METRICS.name, MetricUpdate)
        self._rollups = Encoder(registry, METRIC_ROLLUPS.name, MetricRollup)

    def updates(self, rows: pl.DataFrame) -> Output:
        names = ("window_size", "window_start", "version", "dimensions")
        places = zip(*(rows[name].to_list() for name in names), strict=True)
        return Output(
            topic=METRICS.name,
            keys=[f"{size}|{start}|{v}|{d}".encode() for size, start, v, d in places],
            values=self._updates.encode(rows),
        )

    def saved(self, rollups: list[Rollup]) -> Output:
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


@lru_cache(maxsize=KNOWN_TEXTS)
def partition_of(version: str, dimensions: str, partitions: int) -> int:
    """Where the partials of a version and its dimensions meet, of all windows and sources."""
    return zlib.crc32(f"{version}|{dimensions}".encode()) % partitions


def _places(rows: pl.DataFrame) -> list[bytes]:
    return [f"{EVENTS.name}/{p}/{o}".encode() for p, o in rows.select("partition", "offset").rows()]


def _schema_id(value: bytes) -> int | None:
    return int.from_bytes(value[1:5], "big") if len(value) >= 5 else None
