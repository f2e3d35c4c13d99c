"""Events as the log that they would have been: partitions, offsets and times of arrival.

    order "time"   each event arrives when it happens: none is late, none from the future
    order "file"   they arrive as the lines lie, all at one time: as `produce` would send them

Upstream: `reading.py`. Downstream: batches for `metrics.py` and `users.py`. Invariants: all of a
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


def batches(
    events: pl.DataFrame, order: Order, partitions: int, arrived_at: int
) -> Iterator[pl.DataFrame]:
    """The events in the order of arrival, with partition, offset and append_time; each batch by
    partition and offset."""
    log = events.select("timestamp", "event_id", "user_key").with_row_index("row")
    if order == "time":
        log = log.sort("timestamp", "event_id", maintain_order=True)
    users = log["user_key"].unique()
    numbers = [partition_of(user.encode(), partitions) for user in users.to_list()]
    table = pl.DataFrame({"user_key": users, "partition": pl.Series(numbers, dtype=pl.Int32)})
    log = log.join(table, on="user_key", maintain_order="left").select(
        "row",
        "partition",
        offset=pl.int_range(pl.len(), dtype=pl.Int64),
        append_time=pl.col("timestamp") if order == "time" else pl.lit(arrived_at, pl.Int64),
    )
    for part in log.iter_slices(BATCH):
        rows = part.sort("partition", "offset")
        yield events[rows["row"]].with_columns(rows.drop("row").get_columns())


def ticks(events: pl.DataFrame, watermarks: Mapping[int, int], partitions: int) -> pl.DataFrame:
    """What idle partitions get after the last batch: the time that the others have reached."""
    now = max(watermarks.values())
    last = pl.DataFrame(
        {
            "partition": pl.Series(range(partitions), dtype=pl.Int32),
            "offset": [events.height] * partitions,
            "event_type": [TICK] * partitions,
            "timestamp": [now] * partitions,
            "append_time": [now] * partitions,
        }
    )
    return pl.concat([events.clear(), last], how="diagonal")
