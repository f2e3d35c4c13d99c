"""Metric rows as hashes: key, field and value, and until when in event time they are kept.

Upstream: decoded batches. Downstream: the sink's script, and whoever reads the counters:

    {prefix}{metrics-<partition>}:<metric>:<window_size>:<window_start>   dimensions → value

The braces are Redis' hash tag: all keys of a partition lie in one slot of a cluster, beside the
fence that guards them (`…}:fence`). What only the sink needs is written `…}/name`.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

DAY_MS = 86_400_000
KEEP_MS = {"1m": 7_200_000, "1h": 2 * DAY_MS, "1d": 8 * DAY_MS}
"""How far the watermark may pass a window's start before its counters go."""


@dataclass(frozen=True, kw_only=True)
class Keys:
    """The keys of one partition."""

    prefix: str
    """What its hashes begin with."""
    fence: str
    expiry: str
    names: str


def keys(namespace: str, partition: int) -> Keys:
    """`sg:{metrics-3}:…`, or with the namespace in place of `sg`."""
    tag = f"{namespace or 'sg'}:{{metrics-{partition}}}"
    return Keys(
        prefix=f"{tag}:", fence=f"{tag}:fence", expiry=f"{tag}/expiry", names=f"{tag}/names"
    )


def hashes(rows: pl.DataFrame) -> pl.DataFrame:
    """One row a hash: name (without the prefix), expires, fields, values."""
    keep = pl.col("window_size").replace_strict(
        KEEP_MS, default=max(KEEP_MS.values()), return_dtype=pl.Int64
    )
    return (
        rows.explode("metrics", "values")
        .drop_nulls(["metrics", "values", "dimensions", "window_size", "window_start"])
        .group_by(
            pl.concat_str("metrics", "window_size", "window_start", separator=":").alias("name"),
            (pl.col("window_start") + keep).alias("expires"),
            maintain_order=True,
        )
        .agg(pl.col("dimensions").alias("fields"), "values")
    )


def deletions(tombstones: pl.DataFrame) -> pl.DataFrame:
    """window_size, window_start and field of the keys `size|start|version|dimensions`."""
    parts = pl.col("key").cast(pl.String).str.splitn("|", 4)
    return tombstones.select(
        parts.struct.field("field_0").alias("window_size"),
        parts.struct.field("field_1").alias("window_start"),
        parts.struct.field("field_3").alias("field"),
    ).drop_nulls()
