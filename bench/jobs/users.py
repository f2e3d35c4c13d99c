"""b11's job: sessions, profiles and segments of many users, computed by the worker's branch.

    python -m bench.jobs.users profiles|all each-half|in-turn USERS EVENTS

Events are made up front, a batch at a time, and are no part of what is measured; nothing goes to
Kafka, but every record that would is encoded. Prints one JSON object.
"""

import ctypes
import gc
import json
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl

from streamgauge.schemas.dtypes import dtype
from streamgauge.schemas.envelope import COLUMNS
from streamgauge.schemas.registry import open_registry
from streamgauge.schemas.segments import builtin
from streamgauge.streams.branch import Accepted, Branch, Horizon
from streamgauge.streams.engine.memory import bound
from streamgauge.streams.profiles.feed import Profiles
from streamgauge.streams.users import users as users_branch

BATCH, PARTITIONS, START = 20_000, 4, 1_760_000_000_000
COMMIT_S = 0.25
"""A batch at 80,000 events a second."""
LATENESS_MS = 3_600_000
FAR = int(np.iinfo(np.int64).max)
SHARES = "page_view .3 playback .2 feed_view .2 feed_click .1 search .05 task_update .05"
TYPES = f"{SHARES} learning_session .02 quiz_attempt .03 button_click .05".split()


class ProfilesAlone(Branch):
    """Without sessions and segments."""

    columns = Profiles.columns

    def __init__(self) -> None:
        self._profiles = Profiles(open_registry("mock://bench"))
        self.flush = self._profiles.flush  # type: ignore[method-assign]
        self.commit = self._profiles.commit  # type: ignore[method-assign]

    def process(self, accepted: Accepted) -> None:
        for part in self._profiles.digest(accepted.frame).parts():
            self._profiles.step(part)
        self._profiles.passed(accepted)


def frame(
    rng: np.random.Generator, users: int, first: int, columns: frozenset[str]
) -> pl.DataFrame:
    """A batch, a tenth of a millisecond between events: an hour in 36 M events."""

    def one_of(names: list[str], shares: list[float] | None = None) -> pl.Series:
        return pl.Series(names).gather(rng.choice(len(names), BATCH, p=shares))

    user = rng.integers(0, users, BATCH)
    known = pl.DataFrame(
        {
            "partition": pl.Series(user % PARTITIONS, dtype=pl.Int32),
            "offset": np.arange(first, first + BATCH),
            "timestamp": START + np.arange(first, first + BATCH) * 2,
            "event_type": one_of(TYPES[::2], [*map(float, TYPES[1::2])]),
            "user_id": pl.Series([f"u-{number:07}" for number in user.tolist()]),
            "event_id": pl.Series([f"e-{n:010}" for n in range(first, first + BATCH)]),
            "page_url": one_of([f"/page/{n}" for n in range(50)]),
            "device_type": pl.Series(["mobile", "desktop", "tv"]).gather(user % 3),
            "screen_size": pl.Series(["390x844", "1920x1080"]).gather(user % 2),
            "country": pl.Series(["DE", "FR", "US"]).gather(user % 3),
        }
    )
    is_playback = pl.col("event_type") == "playback"
    has_genre = pl.col("event_type").is_in(["playback", "feed_view", "feed_click"])
    said = {
        "user_key": pl.col("user_id"),
        "action": pl.when(is_playback).then(one_of(["start", "progress", "complete"])),
        "position_ms": pl.when(is_playback).then(60_000.0),
        "genre": pl.when(has_genre).then(one_of([f"genre-{n}" for n in range(12)])),
        "exploration": pl.when(has_genre).then(True),
        "score": pl.when(pl.col("event_type") == "quiz_attempt").then(0.5),
        "completion_rate": pl.when(pl.col("event_type") == "learning_session").then(0.5),
    }
    rest = columns - {*known.columns, *said} - {"control"}
    nothing = {name: pl.lit(None, dtype(COLUMNS[name])) for name in (*rest, "consent_analytics")}
    return known.with_columns(**said, **nothing).sort("partition", "offset")


def measured(branch: Branch, written: str, users: int, events: int) -> dict[str, float]:
    """CPU an event over the second half, and memory a user at the end.

    Users are written `in-turn`, as by a worker that catches up and has a core to itself; or all who
    were held back at the end of `each-half`. What the writing held is given back before memory is
    looked at.
    """
    rng, before = np.random.default_rng(7), resident()
    cpu = rows = 0.0
    now, watermarks = 1000.0, dict.fromkeys(range(PARTITIONS), START)
    half = events // BATCH // 2
    for number in range(2 * half):
        batch = frame(rng, users, number * BATCH, branch.columns)
        partition, times = batch["partition"].to_numpy(), batch["timestamp"].to_numpy()
        after = {p: int(times[partition == p].max()) for p in range(PARTITIONS)}
        accepted = Accepted(
            frame=batch,
            watermark=np.array([watermarks[p] for p in partition.tolist()]),
            watermarks=after,
            began=watermarks,
        )
        drained = written == "each-half" and number in (half - 1, 2 * half - 1)
        needed = FAR if drained else 0
        horizons = {p: Horizon(offset=needed, timestamp=needed) for p in watermarks}
        began = time.process_time()
        branch.process(accepted)
        records = sum(len(output.keys) for output in branch.flush(now, horizons))
        branch.commit()
        took = time.process_time() - began
        now += took if written == "in-turn" else COMMIT_S
        if number >= half:
            cpu += took
            rows += records
        watermarks = after
    counted = half * BATCH
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    time.sleep(3)  # polars' allocator gives back after a while
    return {
        "cpu_us": cpu / counted * 1e6,
        "rows_per_event": rows / counted,
        "bytes_per_user": (resident() - before) / users,
    }


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def main() -> None:
    what, written, users, events = *sys.argv[1:3], *map(int, sys.argv[3:])
    bound()
    branch: Branch = ProfilesAlone()
    if what == "all":
        branch = users_branch(
            open_registry("mock://bench"),
            lateness_ms=LATENESS_MS,
            consent_default="granted",
            rules=builtin(),
        )
    print(json.dumps(measured(branch, written, users, events)))


if __name__ == "__main__":
    main()
