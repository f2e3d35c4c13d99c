"""Which names are one person: pairs of anonymous_id and user_id, from `identify` events.

Upstream: accepted events. Downstream: the topic `user-links`. Invariant: of a pair the earliest
event counts, in whatever order they come.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from streamgauge.streams.metrics.keys import combine, firsts, of_strings
from streamgauge.streams.metrics.runs import Run, Runs
from streamgauge.streams.profiles.columns import NULL

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
    mine = frame.select_seq(_IDENTIFIES).to_series().to_numpy().nonzero()[0]
    if not len(mine):
        return known, NO_PAIRS
    pairs = frame.select_seq(_pairs_of(pl.Series(mine)))
    names = [pairs[name].to_numpy() for name in ("anonymous", "user", "partition", "linked_at")]
    said = ((names[0] != NULL) & (names[1] != NULL)).nonzero()[0]
    if not len(said):
        return known, NO_PAIRS
    anonymous, user, partition, time = (column[said] for column in names)
    key = _key(anonymous, user, partition)
    order = np.argsort(key, kind="stable")
    starts = firsts(key[order]).nonzero()[0]
    earliest = np.minimum.reduceat(time[order], starts)
    first = order[starts]
    before = np.full(len(first), np.iinfo(np.int64).max)
    which, columns = known.find(key[first])
    np.minimum.at(before, which, columns[-1])
    new = (earliest < before).nonzero()[0]
    if not len(new):
        return known, NO_PAIRS
    new = new[np.argsort(first[new])]  # in the order in which they came
    first = first[new]
    texts = (pairs[name].to_list() for name in ("anonymous_id", "user_id"))
    told = ([text[place] for place in said[first].tolist()] for text in texts)
    found = pl.DataFrame([partition[first], *told, earliest[new]], schema=SCHEMA)
    return _added(known, found, key[first]), found


def _pairs_of(places: pl.Series) -> list[pl.Expr]:
    """The pairs of events at these places, and the hashes of their names."""
    anonymous, user = pl.col("anonymous_id").gather(places), pl.col("user_id").gather(places)
    return [
        *(pl.col("partition").gather(places), anonymous, user),
        pl.col("timestamp").gather(places).alias("linked_at"),
        *(anonymous.hash(0).alias("anonymous"), user.hash(0).alias("user")),
    ]


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
    anonymous, user = (of_strings(pairs[name]) for name in ("anonymous_id", "user_id"))
    return _added(known, pairs, _key(anonymous, user, pairs["partition"].to_numpy()))


def without(known: Runs, partitions: set[int]) -> Runs:
    gone = sorted(partitions)
    return known.keep(lambda run: ~np.isin(run.columns[0], gone))


def keys(pairs: pl.DataFrame) -> list[bytes]:
    """Keys of the records."""
    names = zip(pairs["anonymous_id"], pairs["user_id"], strict=True)
    return [f"{anonymous}|{user}".encode() for anonymous, user in names]


def _key(anonymous: Array, user: Array, partition: Array) -> Array:
    """Of pairs, by the hashes of their names."""
    return combine(combine(anonymous, user), partition)


def _added(known: Runs, pairs: pl.DataFrame, key: Array) -> Runs:
    texts = [np.array(pairs[name].to_list(), object) for name in ("anonymous_id", "user_id")]
    partition, time = pairs["partition"].to_numpy(), pairs["linked_at"].to_numpy()
    return known.add(key, partition, *texts, time)
