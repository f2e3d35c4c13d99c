"""Events as the log that they would have been: partitions, offsets and times of arrival.

    order "time"   each event arrives when it happens: none is late, none from the future
    order "file"   they arrive as the lines lie, all at one time: as `produce` would send them

Upstream: `reading.py`. Downstream: batches for `metrics.py` and `sessions.py`. Invariants: all of a
user is in one partition, the one that a producer takes; batches have the shape that the worker's
decoder gives them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

import polars as pl

from streamgauge.producers.partitioner import partition_of
from streamgauge.schemas.validity import TICK

Order = Literal["time", "file"]

BATCH = 100_000
"""Events; the result does not depend on it."""


def log(events: pl.DataFrame, order: Order, partitions: int, arrived_at: int) -> pl.DataFrame:
    """The events in the order of arrival, with partition, offset and append_time."""
    if order == "time":
        events = events.sort("timestamp", "event_id", maintain_order=True)
    users = events["user_key"].unique()
    numbers = [partition_of(user.encode(), partitions) for user in users.to_list()]
    table = pl.DataFrame({"user_key": users, "partition": pl.Series(numbers, dtype=pl.Int32)})
    arrival = pl.col("timestamp") if order == "time" else pl.lit(arrived_at, pl.Int64)
    return events.join(table, on="user_key", how="left", maintain_order="left").with_columns(
        offset=pl.int_range(pl.len(), dtype=pl.Int64), append_time=arrival
    )


def batches(log: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Parts of a log, each by partition and offset."""
    for part in log.iter_slices(BATCH):
        yield part.sort("partition", "offset")


def ticks(log: pl.DataFrame, watermarks: Mapping[int, int], partitions: int) -> pl.DataFrame:
    """What idle partitions get at the end: the time that the others have reached."""
    now = max(watermarks.values())
    last = pl.DataFrame(
        {
            "partition": pl.Series(range(partitions), dtype=pl.Int32),
            "offset": pl.Series([log.height] * partitions, dtype=pl.Int64),
            "event_type": [TICK] * partitions,
            "timestamp": [now] * partitions,
            "append_time": [now] * partitions,
        }
    )
    return pl.concat([log.clear(), last], how="diagonal")
