"""A backtest: a file's events through the worker's logic, into tables.

Upstream: `streamgauge backtest`. Downstream: `tables.py`. Invariants: read = accepted + duplicates
+ late + rejected; the same file and settings give the same tables, except for what the order
"file" takes for the present.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from streamgauge.cli.backtest import log as logs
from streamgauge.cli.backtest import reading
from streamgauge.cli.backtest.metrics import Metrics
from streamgauge.cli.backtest.reading import LINE, Lines
from streamgauge.cli.backtest.users import People
from streamgauge.producers.files import dead_letter_topic
from streamgauge.schemas.consent import ConsentDefault
from streamgauge.schemas.metrics import Definitions
from streamgauge.schemas.segments import Rules
from streamgauge.schemas.unknown import KEPT, UnknownTypes
from streamgauge.streams.metrics import fate
from streamgauge.streams.metrics.plan import Plan

LATE = pl.Schema(
    {
        "line": pl.Int64(),
        "event_id": pl.String(),
        "event_type": pl.String(),
        "user_id": pl.String(),
        "timestamp": pl.Int64(),
        "watermark": pl.Int64(),
    }
)


@dataclass(frozen=True, kw_only=True)
class Backtest:
    """What to compute, of which file."""

    path: str
    form: str
    definitions: Definitions
    lateness: int
    consent_default: ConsentDefault
    partitions: int
    order: logs.Order
    arrived_at: int
    """ms; when the file arrived, if its order is that of arrival."""
    conversions: tuple[str, ...]
    rules: Rules
    """Of segments."""
    unknown: UnknownTypes = KEPT
    """What events of no known type are."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of it."""

    read: int
    accepted: int
    duplicates: int
    late: int
    rejected: int
    tables: Mapping[str, pl.DataFrame]


def read(asked: Backtest, progress: Callable[[int], None]) -> Lines:
    """The file's events; `progress` is told how many lines have been read."""
    columns = Plan(asked.definitions).columns | People.columns
    return reading.read(asked.path, asked.form, columns, progress, asked.unknown)


def compute(asked: Backtest, lines: Lines, progress: Callable[[int], None]) -> Result:
    """All tables; `progress` is told how many events have been computed."""
    metrics = Metrics(
        asked.definitions,
        lateness=asked.lateness,
        consent_default=asked.consent_default,
        partitions=asked.partitions,
    )
    people = People(
        asked.rules,
        lateness=asked.lateness,
        consent_default=asked.consent_default,
        conversions=asked.conversions,
    )
    verdicts: Counter[int] = Counter()
    late, future = [LATE.to_frame()], [lines.rejected]

    def add(batch: pl.DataFrame, *, last: bool = False) -> Mapping[int, int]:
        fates = metrics.add(batch, last=last)
        people.add(batch, fates)
        is_late = fates.verdict == fate.LATE
        late.append(_late(batch.filter(pl.Series(is_late)), fates.watermark[is_late]))
        future.append(_future(batch.filter(pl.Series(fates.verdict == fate.FUTURE))))
        verdicts.update(fates.verdict.tolist())
        progress(sum(verdicts.values()))
        return fates.watermarks

    watermarks: Mapping[int, int] = {}
    for batch in logs.batches(lines.events, asked.order, asked.partitions, asked.arrived_at):
        watermarks = add(batch)
    if max(watermarks.values(), default=fate.NONE) != fate.NONE:
        add(logs.ticks(lines.events, watermarks, asked.partitions), last=True)
    rejected = pl.concat(future).sort("line")
    tables = {
        "metrics": metrics.table(),
        **people.tables(),
        "late_events": _placed(pl.concat(late).sort("line"), asked.path),
        "dead_letters": _placed(rejected, asked.path),
    }
    return Result(
        read=lines.read,
        accepted=verdicts[fate.ACCEPTED],
        duplicates=verdicts[fate.DUPLICATE],
        late=verdicts[fate.LATE],
        rejected=rejected.height,
        tables=tables,
    )


def _late(events: pl.DataFrame, watermark: np.ndarray) -> pl.DataFrame:
    """Late events, with the watermark that each of them met."""
    user_id = pl.col("user_key").alias("user_id")
    return events.select(
        pl.col(LINE).alias("line"),
        *("event_id", "event_type", user_id, "timestamp"),
        pl.Series("watermark", watermark, pl.Int64),
    )


def _future(events: pl.DataFrame) -> pl.DataFrame:
    """Events from the future as lines that were rejected."""
    ahead = pl.col("timestamp") - pl.col("append_time")
    detail = pl.format("timestamp is {} ms after the file arrived", ahead)
    return events.select(
        pl.col(LINE).alias("line"),
        reason=pl.lit("future"),
        detail=detail,
        payload=pl.lit(None, pl.Binary),
    )


def _placed(lines: pl.DataFrame, path: str) -> pl.DataFrame:
    """With the place that `produce` would have given them."""
    return lines.select(
        pl.lit(dead_letter_topic(path)).alias("topic"),
        pl.lit(0, pl.Int32).alias("partition"),
        pl.col("line").alias("offset"),
        pl.all(),
    )
