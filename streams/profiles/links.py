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


_IDENTIFIES = pl.col("event_type") == "identify"


def of_events(known: Runs, frame: pl.DataFrame) -> tuple[Runs, pl.DataFrame]:
    """With the pairs of these events; and those that are new, or earlier than known."""
    mine = frame.select_seq(_IDENTIFIES).to_series()
    if not mine.any():
        return known, NO_PAIRS
    pairs = frame.select_seq(
        pl.col("partition", "anonymous_id", "user_id", "timestamp").gather(mine.arg_true())
    )
    pairs = pairs.drop_nulls() if any(pairs.null_count().row(0)) else pairs
    if not pairs.height:
        return known, NO_PAIRS
    key, time = _keys(pairs), pairs["timestamp"].to_numpy()
    order = np.argsort(key, kind="stable")
    starts = firsts(key[order]).nonzero()[0]
    earliest = np.minimum.reduceat(time[order], starts)
    first = order[starts]
    before = np.full(len(first), np.iinfo(np.int64).max)
    which, columns = known.find(key[first])
    np.minimum.at(before, which, columns[-1])
    new = (earliest < before).nonzero()[0]
    new = new[np.argsort(first[new])]  # in the order in which they came
    found = pairs.drop("timestamp")[first[new]].with_columns(linked_at=earliest[new])
    return _added(known, found, key[first[new]]), found


def table(known: Runs, partition: int | None = None) -> pl.DataFrame:
    """All pairs, or those of a partition."""
    run = known.where(lambda run: (run.columns[0] == partition) | (partition is None))
    order = np.argsort(run.key, kind="stable")
    run = _earliest(run.take(order)) if len(order) else run
    columns = [column.tolist() for column in run.columns]
    return pl.DataFrame(columns, schema=SCHEMA, orient="col")


def restored(known: Runs, frame: pl.DataFrame, partition: int) -> Runs:
    """With the pairs of records."""
    pairs = frame.with_columns(partition=pl.lit(partition, pl.Int32))
    return _added(known, pairs, _keys(pairs))


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


def _added(known: Runs, pairs: pl.DataFrame, key: Array) -> Runs:
    texts = [np.array(pairs[name].to_list(), object) for name in ("anonymous_id", "user_id")]
    partition, time = pairs["partition"].to_numpy(), pairs["linked_at"].to_numpy()
    return known.add(key, partition, *texts, time)
