"""One batch as the archive's columns: where each record lay, what it says, its bytes.

Upstream: a decoded batch with its messages. Invariant: one row a message, in offset order; what
could not be decoded has its bytes, a reason, and nulls.
"""

from __future__ import annotations

import polars as pl

from streamgauge.sinks.sink import Batch

HEADER = 5


def table(batch: Batch) -> pl.DataFrame:
    """Times are int ms. `key` and `payload` are bytes, the payload with its header."""
    messages = batch.messages
    values = pl.Series("payload", [m.value() for m in messages], dtype=pl.Binary)
    ids = [
        int.from_bytes(v[1:HEADER]) if v is not None and len(v) >= HEADER and v[0] == 0 else None
        for v in values
    ]
    raw = pl.DataFrame(
        {
            "topic": pl.Series([batch.topic], dtype=pl.String).new_from_index(0, len(messages)),
            "partition": pl.Series([m.partition() for m in messages], dtype=pl.Int32),
            "offset": pl.Series([m.offset() for m in messages], dtype=pl.Int64),
            "append_time": pl.Series([m.timestamp()[1] for m in messages], dtype=pl.Int64),
            "key": pl.Series([m.key() for m in messages], dtype=pl.Binary),
            "schema_id": pl.Series(ids, dtype=pl.Int64),
            "payload": values,
            "reject_reason": pl.Series(
                [batch.reasons.get(i) for i in range(len(messages))], dtype=pl.String
            ),
        }
    ).with_row_index()
    place = ["partition", "offset", "append_time", "message_key"]
    decoded = batch.frame.drop(place, strict=False)
    return (
        raw.join(decoded, on="index", how="left", maintain_order="left")
        .drop("index")
        .sort("partition", "offset")
    )
