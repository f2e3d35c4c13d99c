"""A branch: what is computed of accepted events beside the metrics, in the same agent.

    events → decode → fates ─┬─> metrics
                             └─> branches: sessions, profiles, segments, exposures

Upstream: `metrics/tasks.py`, which decides once for all which events count. Downstream: outputs in
the same transaction. A branch lives as a task does (`engine/task.py`), but never reads again from
where it likes: after a restart it gets its changelogs' rows, and the events since the horizon.

An output topic can be the changelog, though rows are held back by throttling: a row says through
which source offset it is (`emitted_offset`), `replay` applies later events only, and `flush` writes
every row held back that has an event which a replay would not bring: one at an offset before the
horizon's, or with a timestamp that is not after the horizon's. Where a definition changed, it
writes all of them with it: events before the change are never applied after it.

Invariants: nothing but the log decides a value; `process` and `flush` touch the working state only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from streamgauge.schemas import control as controls
from streamgauge.schemas.records import Control
from streamgauge.streams.engine.task import Output
from streamgauge.streams.metrics import fate
from streamgauge.streams.metrics.fate import Fates
from streamgauge.streams.metrics.keys import firsts


@dataclass(frozen=True, kw_only=True)
class Placed:
    """A definition that takes effect at this place of `events`."""

    partition: int
    offset: int
    control: Control
    watermark: int
    """Of the partition, at this place; fate.NONE before any event."""


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """The events of a batch that were accepted."""

    frame: pl.DataFrame
    """Sorted by (partition, offset): partition, offset, append_time, event_id, event_type,
    timestamp (int ms), user_key, consent_analytics, and the columns that were asked for."""
    watermark: np.ndarray
    """Of the partition, before each of them; fate.NONE before the first."""
    watermarks: Mapping[int, int]
    """After the batch, of the partitions in it; ticks advance it too."""
    began: Mapping[int, int] = field(default_factory=dict)
    """Before the batch; of partitions that had none, the first one."""
    controls: tuple[Placed, ...] = ()
    left_out: np.ndarray | None = None
    """A mask of those that metrics and experiments leave out; None: of none."""

    @staticmethod
    def of(frame: pl.DataFrame, fates: Fates) -> Accepted:
        """What the fates leave of a batch."""
        wanted = fates.verdict == fate.ACCEPTED
        partition = frame["partition"].to_numpy()
        first = firsts(partition).nonzero()[0]
        partitions = partition[first].tolist()
        known = (fates.watermark != fate.NONE).nonzero()[0]
        known = known[firsts(partition[known])]
        began = {p: fates.watermarks[p] for p in partitions}
        began |= zip(partition[known].tolist(), fates.watermark[known].tolist(), strict=True)
        return Accepted(
            frame=frame if wanted.all() else frame.filter(pl.Series(wanted)),
            watermark=fates.watermark[wanted],
            watermarks={p: fates.watermarks[p] for p in partitions},
            began=began,
            controls=_controls(frame, fates),
        )

    def of_partitions(self, partitions: set[int]) -> Accepted:
        """What of it is of these."""
        wanted = np.isin(self.frame["partition"].to_numpy(), sorted(partitions))
        return Accepted(
            frame=self.frame.filter(pl.Series(wanted)),
            watermark=self.watermark[wanted],
            watermarks={p: at for p, at in self.watermarks.items() if p in partitions},
            began=self.began,
            controls=tuple(placed for placed in self.controls if placed.partition in partitions),
            left_out=None if self.left_out is None else self.left_out[wanted],
        )

    def counted(self) -> Accepted:
        """What metrics and experiments count."""
        if self.left_out is None:
            return self
        wanted = ~self.left_out
        return replace(
            self,
            frame=self.frame.filter(pl.Series(wanted)),
            watermark=self.watermark[wanted],
            left_out=None,
        )

    def after(self, horizons: Mapping[int, Horizon]) -> Accepted:
        """Without the events that state restored from changelogs has for certain."""
        place = self.frame["partition"].to_numpy()
        bounds = np.full(max(horizons, default=0) + 1, fate.NONE)
        for partition, horizon in horizons.items():
            bounds[partition] = horizon.timestamp
        known = place < len(bounds)
        wanted = ~known | (self.frame["timestamp"].to_numpy() > bounds[np.where(known, place, 0)])
        return Accepted(
            frame=self.frame.filter(pl.Series(wanted)),
            watermark=self.watermark[wanted],
            watermarks=self.watermarks,
            began=self.began,
            controls=self.controls,
            left_out=None if self.left_out is None else self.left_out[wanted],
        )


def _controls(frame: pl.DataFrame, fates: Fates) -> tuple[Placed, ...]:
    """The markers among the ticks of a batch."""
    ticks = (fates.verdict == fate.IS_TICK).nonzero()[0]
    if not len(ticks):
        return ()
    rows = frame[ticks].select("partition", "offset", "control").iter_rows()
    return tuple(
        Placed(
            partition=partition, offset=offset, control=controls.of_text(text), watermark=watermark
        )
        for (partition, offset, text), watermark in zip(
            rows, fates.watermark[ticks].tolist(), strict=True
        )
        if text is not None
    )


@dataclass(frozen=True, kw_only=True)
class Horizon:
    """Where a source partition is read again from, after a restart without a checkpoint."""

    offset: int
    timestamp: int
    """The watermark before it: no older event can be told from a duplicate there."""


class Branch:
    """Subclass it; `engine/task.py` says when each method is called."""

    #: Changelog topics it owns, co-partitioned with `events`.
    changelogs: tuple[str, ...] = ()
    #: Columns of events that it reads.
    columns: frozenset[str] = frozenset()
    #: What a snapshot depends on beside the log: its format, settings.
    identity: str = ""
    #: False while rows are held back by throttling.
    settled: bool = True

    def process(self, accepted: Accepted) -> None:
        """Advance the working state by a batch."""
        raise NotImplementedError

    def leaves_out(self, accepted: Accepted) -> np.ndarray | None:
        """Of events that it has processed or replayed: a mask of those that metrics and the
        branches after this one leave out; None: of none."""
        return None

    def flush(self, now: float, horizons: Mapping[int, Horizon]) -> Iterable[Output]:
        """Rows to write. `now` is monotonic seconds, for throttling only."""
        return ()

    def commit(self) -> None:
        """Make the working state the stable one."""

    def abort(self) -> None:
        """Go back to the stable state."""

    def restore(
        self, changelog: str, keys: list[bytes], values: list[bytes | None], partition: int
    ) -> None:
        """Rows of a changelog, in order, in chunks; before any replay."""

    def replay(self, accepted: Accepted) -> None:
        """Events since the horizon, or since the snapshot, in order."""

    def restored(self, partitions: set[int]) -> None:
        """Everything of these partitions has been handed over."""

    def revoke(self, partitions: set[int]) -> None:
        """Forget these partitions."""

    def snapshot(self) -> Callable[[int], bytes]:
        """The stable state, to be written by partition in another thread."""
        raise NotImplementedError

    def load(self, partition: int, snapshot: memoryview) -> bool:
        """Take up a snapshot instead of the changelogs' rows; False: of no use."""
        return False
