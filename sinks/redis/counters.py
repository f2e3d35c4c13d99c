"""Metric rows as hashes: key, field and value, and until when in event time they are kept.

Upstream: decoded batches. Downstream: the sink's script, and whoever reads the counters:

    {prefix}{metrics-<partition>}:<metric>:<window_size>:<window_start>   dimensions → value

The braces are Redis' hash tag: all keys of a partition lie in one slot of a cluster, beside the
fence that guards them (`…}:fence`). What only the sink needs is written `…}/name`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import polars as pl

DAY_MS = 86_400_000
KEEP_MS = {"1m": 7_200_000, "1h": 2 * DAY_MS, "1d": 8 * DAY_MS}
"""How far the watermark may pass a window's start before its counters go."""
_LONGEST = max(KEEP_MS.values())


@dataclass(frozen=True, kw_only=True)
class Keys:
    """The keys of one partition."""

    prefix: str
    """What its hashes begin with."""
    fence: str
    expiry: str
    names: str


def keys(namespace: str, partition: int, topic: str = "metrics") -> Keys:
    """`sg:{metrics-3}:…`, or with the namespace in place of `sg`."""
    tag = f"{namespace or 'sg'}:{{{topic}-{partition}}}"
    return Keys(
        prefix=f"{tag}:", fence=f"{tag}:fence", expiry=f"{tag}/expiry", names=f"{tag}/names"
    )


@dataclass(kw_only=True)
class Counters:
    """What the rows of one partition set."""

    watermark: int = -1
    """The newest among them."""
    hashes: dict[tuple[str, int], list[str]] = field(default_factory=dict)
    """By name (without the prefix) and expiry: field, value, field, value and so on."""


def counters(rows: pl.DataFrame) -> dict[int, Counters]:
    """By partition. In plain Python: most batches are small, and one query of polars costs as
    much as hundreds of rows here."""
    found: dict[int, Counters] = defaultdict(Counters)
    columns = ("partition", "watermark", "window_size", "window_start", "dimensions")
    for partition, watermark, size, start, fields, metrics, values in rows.select(
        *columns, "metrics", "values"
    ).iter_rows():
        of = found[partition]
        if watermark is not None:
            of.watermark = max(of.watermark, watermark)
        if size is None or start is None or fields is None:
            continue
        expires = start + KEEP_MS.get(size, _LONGEST)
        for metric, value in zip(metrics or (), values or (), strict=False):
            if metric is not None and value is not None:
                of.hashes.setdefault((f"{metric}:{size}:{start}", expires), []).extend(
                    (fields, repr(value))
                )
    return found


def deletions(tombstones: pl.DataFrame) -> dict[int, list[bytes]]:
    """By partition: window_size, window_start and field of each key `size|start|version|field`,
    one behind the other."""
    found: dict[int, list[bytes]] = defaultdict(list)
    for partition, key in tombstones.select("partition", "key").iter_rows():
        parts = (key or b"").split(b"|", 3)
        if len(parts) == 4:
            found[partition] += (parts[0], parts[1], parts[3])
    return found
