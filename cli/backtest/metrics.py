"""Both stages of the metrics over batches of a log, and the table that their rows come to.

Upstream: `log.py`. Downstream: `run.py`. The same functions that `streams.metrics.tasks` runs in a
worker, without the topic between the stages; latest wins, as in the sink.
"""

from __future__ import annotations

from typing import Any

import polars as pl

from streamgauge.schemas.consent import ConsentDefault
from streamgauge.schemas.consent_columns import identifiable_rows
from streamgauge.schemas.metrics import Definitions
from streamgauge.streams.metrics import emission, merge, source, updates
from streamgauge.streams.metrics.emission import Emission
from streamgauge.streams.metrics.fate import Fates
from streamgauge.streams.metrics.plan import Plan

PARTIALS = pl.Schema(
    {
        "source_partition": pl.Int32(),
        "window_size": pl.String(),
        "window_start": pl.Int64(),
        "version": pl.String(),
        "dimensions": pl.String(),
        "parts": pl.Binary(),
        "users": pl.Int64(),
        "watermark": pl.Int64(),
        "since": pl.String(),
    }
)
KEY = ("window_size", "window_start", "version", "dimensions")
LISTS = ("metrics", "values", "numerators", "denominators")


class Metrics:
    """The metrics of a log."""

    def __init__(
        self,
        definitions: Definitions,
        *,
        lateness: int,
        consent_default: ConsentDefault,
        partitions: int,
    ) -> None:
        plan = Plan(definitions)
        self._versions = [grain.version for grain in plan.grains]
        self._source = source.Settings(
            plan=plan, lateness=lateness, identifiable=identifiable_rows(consent_default)
        )
        self._merge = merge.Settings(plan=plan, lateness=lateness, sources=partitions)
        self._first, self._second = source.SourceState(), merge.MergeState()
        self._offset = 0
        self._updates: list[pl.DataFrame] = []

    def add(self, batch: pl.DataFrame, *, last: bool = False) -> Fates:
        """With a batch of records; the last one brings out what is held back."""
        self._first, fates = source.step(self._first, batch, self._source)
        self._first, emitted = emission.flush(self._first, self._source, users_due=last)
        self._second = merge.step(self._second, self._partials(emitted), self._merge)
        self._second, rows, _ = updates.flush(self._second, self._merge, longer_due=last)
        self._updates.append(rows)
        return fates

    def _partials(self, emitted: Emission) -> pl.DataFrame:
        """What the second stage would read from its topic."""
        rows: list[tuple[Any, ...]] = [
            (partition, "1m", start, self._versions[grain], dimensions, parts, None, None, None)
            for partition, grain, start, dimensions, parts in emitted.minutes
        ]
        rows += [(*place, None, users, None, None) for place, users in emitted.users]
        rows += [
            (partition, None, None, None, None, None, None, watermark, since)
            for partition, watermark, since in emitted.watermarks
        ]
        first, self._offset = self._offset, self._offset + len(rows)
        return pl.DataFrame(rows, schema=PARTIALS, orient="row").with_columns(
            partition=pl.lit(0, pl.Int32),
            offset=pl.int_range(first, self._offset, dtype=pl.Int64),
        )

    def table(self) -> pl.DataFrame:
        """One row a metric, as in the table `metrics`."""
        if not self._updates:
            return self._table(updates.flush(self._second, self._merge)[1])
        return self._table(pl.concat(self._updates))

    def _table(self, rows: pl.DataFrame) -> pl.DataFrame:
        return (
            rows.unique(KEY, keep="last")
            .explode(*LISTS)
            .drop_nulls("metrics")
            .select(
                *("window_start", "window_size", pl.col("metrics").alias("metric"), "dimensions"),
                "version",
                *(pl.col(name).alias(name.removesuffix("s")) for name in LISTS[1:]),
                *("users", "is_final"),
            )
            .sort("metric", "window_size", "window_start", "dimensions", "version")
        )
