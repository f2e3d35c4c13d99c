"""B1 on this engine: deltas of each batch by minute, type and page, then their merge by key.

    SOURCE ── Split: group_by ──> GROUP-partials (by key) ── Merge: add up ──> OUT, its changelog

Both stages run in one worker and commit in one transaction, so a delta is counted exactly once:
nothing has to be absolute, and the first stage keeps no state. Settings by environment: GROUP,
SOURCE, OUT, KAFKA, REGISTRY, PARTITIONS.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl
from confluent_kafka.admin import AdminClient, NewTopic

from streamgauge.schemas.columnar import Decoder
from streamgauge.schemas.encoder import Encoder
from streamgauge.schemas.registry import open_registry
from streamgauge.streams.engine import App, Batch, Output, Task

GROUP, OUT = os.environ["GROUP"], os.environ["OUT"]
PARTIALS = f"{GROUP}-partials"
KEY = ("minute", "event_type", "page")
PARTITIONS = int(os.environ["PARTITIONS"])

MINUTE = (pl.col("ts") // 60_000 * 60_000).alias("minute")
DURATION = pl.col("duration_ms").fill_null(0)
DELTA = (pl.len().alias("count"), DURATION.sum().alias("sum"), DURATION.max().alias("max"))
ADD = (pl.col("count").sum(), pl.col("sum").sum(), pl.col("max").max())


@dataclass(frozen=True, kw_only=True)
class Partial:
    """What a batch adds to a key."""

    minute: int
    event_type: str
    page: str
    count: int
    sum: int
    max: int


class Split(Task):
    """Events to deltas; between commits it holds the deltas, after them nothing."""

    topic = os.environ["SOURCE"]
    columns = frozenset({"event_type", "page", "ts", "duration_ms"})

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._deltas: tuple[pl.DataFrame, ...] = ()
        self._started = False

    def process(self, batch: Batch) -> None:
        if not self._started:
            self._started = True
            print("FIRST", flush=True)
        delta = batch.frame.group_by(MINUTE, "event_type", "page").agg(DELTA)
        self._deltas = (*self._deltas, delta)

    def flush(self, now: float) -> Iterable[Output]:
        if self._deltas:
            rows = pl.concat(self._deltas).group_by(KEY).agg(ADD)
            values = self._encoder.encode(rows.cast({"count": pl.Int64}))
            yield Output(topic=PARTIALS, keys=_keys(rows), values=values)

    def commit(self) -> None:
        self._deltas = ()

    abort = commit


class Merge(Task):
    """Deltas of all source partitions to totals; the output topic is the changelog."""

    topic = PARTIALS
    changelogs = (OUT,)
    columns = None

    def __init__(self) -> None:
        kinds = {"minute": pl.Int64, "event_type": pl.String, "page": pl.String}
        kinds |= {"count": pl.Int64, "sum": pl.Int64, "max": pl.Int64, "partition": pl.Int32}
        self._stable = self._working = pl.DataFrame(schema=kinds)
        self._deltas: tuple[pl.DataFrame, ...] = ()

    def process(self, batch: Batch) -> None:
        self._deltas = (*self._deltas, batch.frame.select(self._stable.columns))

    def flush(self, now: float) -> Iterable[Output]:
        if not self._deltas:
            return
        deltas = pl.concat(self._deltas)
        totals = pl.concat([self._working, deltas]).group_by("partition", *KEY).agg(ADD)
        self._working = totals.select(self._stable.columns)
        rows = self._working.join(deltas, on=KEY, how="semi")
        values = rows.select(pl.struct("count", "sum", "max").struct.json_encode().cast(pl.Binary))
        yield Output(
            topic=OUT,
            keys=_keys(rows),
            values=values.to_series().to_list(),
            partitions=rows["partition"].to_list(),
        )

    def commit(self) -> None:
        self._stable, self._deltas = self._working, ()

    def abort(self) -> None:
        self._working, self._deltas = self._stable, ()

    def restore(
        self, changelog: str, keys: list[bytes], values: list[bytes | None], partition: int
    ) -> None:
        rows = []
        for key, value in zip(keys, values, strict=True):
            minute, event_type, page = key.decode().split("|")
            total = json.loads(value or b"{}")
            rows.append((int(minute), event_type, page, *total.values(), partition))
        restored = pl.DataFrame(rows, schema=self._stable.schema, orient="row")
        both = pl.concat([self._stable, restored])
        self._stable = self._working = both.unique(KEY, keep="last", maintain_order=True)

    def revoke(self, partitions: set[int]) -> None:
        kept = ~pl.col("partition").is_in(list(partitions))
        self._stable = self._working = self._stable.filter(kept)
        self._deltas = ()


def _keys(rows: pl.DataFrame) -> list[bytes]:
    return rows.select(pl.format("{}|{}|{}", *KEY).cast(pl.Binary)).to_series().to_list()


def main() -> None:
    """Run until told to stop."""
    kafka = os.environ["KAFKA"]
    registry = open_registry(os.environ["REGISTRY"])
    admin = AdminClient({"bootstrap.servers": kafka})
    for done in admin.create_topics([NewTopic(PARTIALS, PARTITIONS, 1)]).values():
        done.result()
    app = App(
        GROUP,
        broker=f"kafka://{kafka}",
        commit_interval=1.0,
        decoder=lambda topic, columns: Decoder(registry, topic, columns),
        topic_allow_declare=False,
        worker_redirect_stdouts=False,
    )
    app.attach(Split(Encoder(registry, PARTIALS, Partial)))
    app.attach(Merge())
    app.Worker(loglevel="WARN").execute_from_commandline()


if __name__ == "__main__":
    main()
