"""Which names are one person: pairs of anonymous_id and user_id, from `identify` events.

Upstream: accepted events. Downstream: the topic `user-links`. Invariant: of a pair the earliest
event counts, in whatever order they come.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from streamgauge.streams.metrics.keys import combine, firsts, of_strings
from streamgauge.streams.metrics.runs import Run, Runs

Array = np.ndarray

SCHEMA = {
    "partition": pl.Int32(),
    "anonymous_id": pl.String(),
    "user_id": pl.String(),
    "linked_at": pl.Int64(),
}

NO_PAIRS = pl.DataFrame(schema=SCHEMA)


def _earliest(run: Run) -> Run:
    starts = firsts(run.key).nonzero()[0]
    return Run(
        key=run.key[starts],
        columns=(
            *(column[starts] for column in run.columns[:-1]),
            np.minimum.reduceat(run.columns[-1], starts),
        ),
    )


NO_LINKS = Runs(dtypes=(np.int32, object, object, np.int64), fold=_earliest)


def of_events(known: Runs, frame: pl.DataFrame) -> tuple[Runs, pl.DataFrame]:
    """With the pairs of these events; and those that are new, or earlier than known."""
    mine = frame["event_type"] == "identify"
    if not mine.any():
        return known, NO_PAIRS
    pairs = (
        frame.filter(mine)
        .drop_nulls(["user_id", "anonymous_id"])
        .group_by("partition", "anonymous_id", "user_id", maintain_order=True)
        .agg(linked_at=pl.col("timestamp").min())
    )
    if not pairs.height:
        return known, NO_PAIRS
    before = np.full(pairs.height, np.iinfo(np.int64).max)
    which, columns = known.find(_keys(pairs))
    np.minimum.at(before, which, columns[-1])
    new = pairs.filter(pl.Series(pairs["linked_at"].to_numpy() < before))
    return _added(known, new), new


def table(known: Runs, partition: int | None = None) -> pl.DataFrame:
    """All pairs, or those of a partition."""
    run = known.where(lambda run: (run.columns[0] == partition) | (partition is None))
    order = np.argsort(run.key, kind="stable")
    run = _earliest(run.take(order)) if len(order) else run
    columns = [column.tolist() for column in run.columns]
    return pl.DataFrame(columns, schema=SCHEMA, orient="col")


def restored(known: Runs, frame: pl.DataFrame, partition: int) -> Runs:
    """With the pairs of records."""
    return _added(known, frame.with_columns(partition=pl.lit(partition, pl.Int32)))


def without(known: Runs, partitions: set[int]) -> Runs:
    gone = sorted(partitions)
    return known.keep(lambda run: ~np.isin(run.columns[0], gone))


def keys(pairs: pl.DataFrame) -> list[bytes]:
    """Keys of the records."""
    names = zip(pairs["anonymous_id"], pairs["user_id"], strict=True)
    return [f"{anonymous}|{user}".encode() for anonymous, user in names]


def _keys(pairs: pl.DataFrame) -> Array:
    both = combine(of_strings(pairs["anonymous_id"]), of_strings(pairs["user_id"]))
    return combine(both, pairs["partition"].to_numpy())


def _added(known: Runs, pairs: pl.DataFrame) -> Runs:
    texts = [np.array(pairs[name].to_list(), object) for name in ("anonymous_id", "user_id")]
    partition, time = pairs["partition"].to_numpy(), pairs["linked_at"].to_numpy()
    return known.add(_keys(pairs), partition, *texts, time)
