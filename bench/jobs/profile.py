"""B2 on this engine: what each user did so far: events, sum of duration, last time, last page.

    SOURCE ── Profile: group_by user ──> OUT (by user, JSON), its changelog

State is columns sorted by a hash of the user id (`Runs`); a user's newest row counts. Each commit
writes the users that changed. Settings by environment: GROUP, SOURCE, OUT, KAFKA, REGISTRY,
COMMIT_INTERVAL (seconds), CHECKPOINTS (a folder), LOGLEVEL.
"""

import io
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import polars as pl

from streamgauge.schemas.columnar import Decoder
from streamgauge.schemas.registry import open_registry
from streamgauge.streams.engine import App, Batch, Output, Task
from streamgauge.streams.metrics.keys import firsts, of_strings
from streamgauge.streams.metrics.runs import Run, Runs

GROUP, OUT = os.environ["GROUP"], os.environ["OUT"]

FIRST_DELTA = (
    pl.len().cast(pl.Int64).alias("events"),
    pl.col("duration_ms").fill_null(0).sum().alias("sum"),
    pl.col("ts").max().alias("last_ts"),
    pl.col("page").last(),
    pl.col("partition").last(),
)
ADD = (
    pl.col("events").sum(),
    pl.col("sum").sum(),
    pl.col("last_ts").max(),
    pl.col("page").last(),
    pl.col("partition").last(),
)
PROFILE = pl.Struct({"events": pl.Int64, "sum": pl.Int64, "last_ts": pl.Int64, "page": pl.String})


class Names:
    """Texts as small numbers; it only grows, so a state that was kept can still be read."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    @property
    def names(self) -> list[str]:
        return list(self._codes)

    def codes(self, texts: pl.Series) -> np.ndarray:
        for text in texts.unique():
            self._codes.setdefault(text, len(self._codes))
        return texts.replace_strict(self._codes, return_dtype=pl.UInt32).to_numpy()


class Profile(Task):
    """Deltas of the batches since the last commit, added to the state when it is due."""

    topic = os.environ["SOURCE"]
    changelogs = (OUT,)
    columns = frozenset({"user_id", "ts", "page", "duration_ms"})
    identity = pl.__version__  # users are known by polars' hash

    def __init__(self) -> None:
        self._pages = Names()
        kinds = (np.int64, np.int64, np.int64, np.uint32, np.int32)
        self._stable = self._working = Runs(dtypes=kinds, fold=_newest)
        self._deltas: tuple[pl.DataFrame, ...] = ()
        self._started = False

    def process(self, batch: Batch) -> None:
        if not self._started:
            self._started = True
            print("FIRST", flush=True)
        self._deltas = (*self._deltas, batch.frame.group_by("user_id").agg(FIRST_DELTA))

    def flush(self, now: float) -> Iterable[Output]:
        if not self._deltas:
            return
        deltas = pl.concat(self._deltas).group_by("user_id").agg(ADD)
        key = of_strings(deltas["user_id"])
        which, (events, sums, last_ts, _, _) = self._working.find(key)
        # Of several rows of a user the newest comes last, and is the one that stays.
        before = np.zeros((3, len(key)), np.int64)
        before[0, which], before[1, which], before[2, which] = events, sums, last_ts
        rows = deltas.with_columns(
            pl.col("events") + before[0],
            pl.col("sum") + before[1],
            pl.max_horizontal("last_ts", pl.Series(before[2])),
        )
        self._working = self._add(key, rows)
        profile = pl.struct("events", "sum", "last_ts", "page")
        values = rows.select(profile.struct.json_encode().cast(pl.Binary))
        yield Output(
            topic=OUT,
            keys=rows["user_id"].cast(pl.Binary).to_list(),
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
        texts = pl.Series(values, dtype=pl.Binary).cast(pl.String)
        rows = texts.str.json_decode(PROFILE).struct.unnest()
        rows = rows.with_columns(partition=pl.lit(partition, pl.Int32))
        users = pl.Series(keys, dtype=pl.Binary).cast(pl.String)
        self._stable = self._working = self._add(of_strings(users), rows)

    def snapshot(self) -> Callable[[int], bytes]:
        stable, names = self._stable, self._pages.names
        return lambda partition: _packed(stable.where(lambda r: r.columns[-1] == partition), names)

    def load(self, partition: int, snapshot: memoryview, at: int, offset: int, text: str) -> bool:
        saved = np.load(io.BytesIO(snapshot))
        *numbers, pages, partitions = (saved[f"arr_{n}"] for n in range(1, 6))
        codes = self._pages.codes(pl.Series(saved["names"], dtype=pl.String))
        columns = (*numbers, codes[pages], partitions)
        self._stable = self._working = self._working.add(saved["arr_0"], *columns)
        return True

    def revoke(self, partitions: set[int]) -> None:
        gone = np.array(sorted(partitions))
        self._stable = self._stable.keep(lambda run: ~np.isin(run.columns[-1], gone))
        self._working, self._deltas = self._stable, ()

    def _add(self, key: np.ndarray, rows: pl.DataFrame) -> Runs:
        numbers = [rows[name].to_numpy() for name in ("events", "sum", "last_ts")]
        return self._working.add(
            key, *numbers, self._pages.codes(rows["page"]), rows["partition"].to_numpy()
        )


def _packed(run: Run, names: list[str]) -> bytes:
    out = io.BytesIO()
    np.savez(out, run.key, *run.columns, names=np.array(names, np.str_))
    return out.getvalue()


def _newest(run: Run) -> Run:
    """The last of the rows of each user."""
    return run.take(np.flatnonzero(np.append(firsts(run.key)[1:], True)))


def main() -> None:
    """Run until told to stop."""
    registry = open_registry(os.environ["REGISTRY"])
    app = App(
        GROUP,
        broker=f"kafka://{os.environ['KAFKA']}",
        commit_interval=float(os.environ.get("COMMIT_INTERVAL", "1")),
        decoder=lambda topic, columns: Decoder(registry, topic, columns),
        checkpoints=Path(os.environ["CHECKPOINTS"]) if "CHECKPOINTS" in os.environ else None,
        checkpoint_interval=2,
        topic_allow_declare=False,
        worker_redirect_stdouts=False,
    )
    app.attach(Profile())
    app.Worker(loglevel=os.environ.get("LOGLEVEL", "WARN")).execute_from_commandline()


if __name__ == "__main__":
    main()
