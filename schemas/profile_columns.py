"""What records of profiles hold as bytes, as columns (needs polars).

Upstream: decoded `user-profiles`. Downstream: the sinks, and a worker that restores.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl

from streamgauge.schemas.profile_records import COUNTS, SUMS


def with_counts(frame: pl.DataFrame) -> pl.DataFrame:
    """With a column of each count and sum, in place of the bytes."""
    return (
        frame.drop("counts", "sums", *({*COUNTS} & {*frame.columns}))
        .hstack(_columns(frame["counts"], COUNTS, np.uint32))
        .hstack(_columns(frame["sums"], SUMS, np.int64))
    )


def matrix(values: pl.Series, width: int, dtype: type) -> np.ndarray:
    """Rows of numbers from bytes; what an older version did not count is 0."""
    size = width * np.dtype(dtype).itemsize
    texts = [(value or b"").ljust(size, b"\0")[:size] for value in values]
    return np.frombuffer(b"".join(texts), dtype).reshape(-1, width)


def tag_sums(frame: pl.DataFrame) -> np.ndarray:
    """Of each tag of each row, one after the other: epoch, sum in it, sum in the one before."""
    return np.frombuffer(b"".join(frame["tag_sums"].drop_nulls()), np.int64).reshape(-1, 3)


def _columns(values: pl.Series, names: Mapping[str, str], dtype: type) -> list[pl.Series]:
    found = matrix(values, len(names), dtype).astype(np.int64)
    return [pl.Series(name, found[:, at].copy()) for at, name in enumerate(names)]
