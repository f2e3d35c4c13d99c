"""The raw events into Parquet: every record, decoded where it can be, and its bytes in any case.

Upstream: the runner. Downstream: `verify`, backtests, people's own DuckDB. A file is written
under a temporary name, made to last, and renamed under the lock if its partition is still ours.
So a file is there as a whole or not at all, and its name is the position.
"""

from __future__ import annotations

import io
import logging
import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from streamgauge.schemas import faultpoint
from streamgauge.schemas.durable import sync_folder
from streamgauge.sinks.archive import layout, ledger
from streamgauge.sinks.archive.ledger import Ledger
from streamgauge.sinks.archive.records import table
from streamgauge.sinks.errors import Fatal, Fenced, Retryable, Rewound
from streamgauge.sinks.sink import Batch, Log, Partition, Range

log = logging.getLogger(__name__)


class ArchiveSink:
    """Writes the events of one namespace below `target`."""

    topics: Mapping[str, frozenset[str] | None] = {"events": None}
    types: Mapping[str, frozenset[str]] = {}

    def __init__(self, target: Path, namespace: str = "") -> None:
        self._folder = Path(target) / (namespace or "default")
        self._events = self._folder / "events"
        self._drafts = self._folder / ".drafts"
        self._epochs: dict[int, int] = {}
        self._positions: dict[int, int | None] = {}
        self._read: dict[int, int] = {}

    def open(self, partitions: Mapping[Partition, Log]) -> dict[Partition, int | None]:
        """Take partitions over; files of another log are moved aside, never mixed."""
        self._epochs, self._positions = {}, {}
        if not partitions:
            return {}
        of = next(iter(partitions.values()))
        with _failures(self._folder):
            self._events.mkdir(parents=True, exist_ok=True)
            self._drafts.mkdir(exist_ok=True)
            with ledger.locked(self._folder):
                known = ledger.read(self._events)
                if known is not None and known.log != of:
                    self._move_aside()
                    known = None
                epochs = known.epochs if known else {}
                # At least the clock: a folder that was emptied must not count from one again.
                now = time.time_ns() // 1_000_000
                mine = {p: max(epochs.get(p, 0) + 1, now) for _, p in partitions}
                ledger.write(self._events, Ledger(log=of, epochs=epochs | mine))
                for partition in mine:
                    for torn in self._drafts.glob(f"p{partition}-*"):
                        torn.unlink()
                self._positions = {p: layout.newest(self._events, p) for p in mine}
                self._epochs = mine
                self._read = {p: end for p, end in self._positions.items() if end is not None}
        return {(topic, p): self._positions[p] for topic, p in partitions}

    def write(self, batch: Batch) -> None:
        """One file a partition and hour; each is its own atomic step."""
        rows = table(batch)
        with _failures(self._folder):
            for partition, span in batch.ranges.items():
                self._write(partition, span, rows.filter(pl.col("partition") == partition))

    def close(self) -> None:
        """Nothing is held open."""

    def _write(self, partition: int, span: Range, rows: pl.DataFrame) -> None:
        # Offsets without a record belong to the next file. What retention took leaves a hole.
        start = self._positions[partition]
        if start is None or span.start > self._read[partition]:
            self._positions[partition] = self._read[partition] = start = span.start
        rows = rows.filter(pl.col("offset") >= start)
        hours = rows["append_time"] // 3_600_000
        parts = rows.with_columns(run=hours.rle_id()).partition_by(
            "run", maintain_order=True, include_key=False
        )
        ends = [part["offset"][0] for part in parts[1:]] + [span.end]
        for part, end in zip(parts, ends, strict=False):
            self._publish(partition, Range(start=start, end=end), part)
            self._positions[partition] = self._read[partition] = start = end
        self._read[partition] = span.end
        # Without a record there is no file, and nothing to be proven but the fence.
        if not parts:
            with ledger.locked(self._folder):
                self._check(partition)

    def _publish(self, partition: int, span: Range, rows: pl.DataFrame) -> None:
        draft = self._drafts / f"p{partition}-{uuid.uuid4().hex}"
        final = self._events / layout.path(partition, span, rows["append_time"][0])
        parquet = io.BytesIO()  # polars' own error for a full disk is no OSError
        rows.write_parquet(parquet, compression="zstd")
        try:
            with draft.open("wb") as out:
                out.write(parquet.getbuffer())
                out.flush()
                os.fsync(out.fileno())
        except OSError:
            draft.unlink(missing_ok=True)  # or each attempt would fill the disk a little more
            raise
        faultpoint.reached("sink_before_commit")
        with ledger.locked(self._folder):
            self._check(partition)
            final.parent.mkdir(parents=True, exist_ok=True)
            draft.rename(final)
        for folder in (final.parent, final.parent.parent, self._events):
            sync_folder(folder)

    def _check(self, partition: int) -> None:
        known = ledger.read(self._events)
        if known is None or known.epochs.get(partition) != self._epochs[partition]:
            raise Fenced(f"events {partition}: another instance archives it by now")

    def _move_aside(self) -> None:
        aside = self._events.with_name(f"events-before-{time.time_ns()}")
        self._events.rename(aside)
        self._events.mkdir()
        log.warning("the topic was made anew: its old archive is now %s", aside)


@contextmanager
def _failures(folder: Path) -> Iterator[None]:
    """A full or failing disk is an outage; a folder that may not be written is not."""
    try:
        yield
    except (PermissionError, NotADirectoryError, FileExistsError) as error:
        raise Fatal(f"{folder} cannot be written ({error}): give another folder") from error
    except FileNotFoundError as error:
        raise Rewound(f"{folder} was removed under the sink: {error}") from error
    except OSError as error:
        raise Retryable(f"{folder}: {error}") from error
