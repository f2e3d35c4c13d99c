"""A task: a computation with state, as the engine drives it.

Upstream: the consumer, which hands over decoded batches. Downstream: the transaction, which takes
the outputs. The engine calls, in this order:

    (resume_from | load) · restore* · replay* · restored    when partitions are assigned
    (process* · flush · commit · snapshot | abort)*         while they are owned
    revoke                                                  when they have gone elsewhere

Invariants: `process` and `flush` touch the working state only; `commit` makes it the stable one;
`abort` goes back. States are immutable, so going back is keeping the old reference, and so is
taking a snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    import polars as pl


class Record(Protocol):
    """confluent_kafka.Message, as one that has been read: nothing but key and value is absent."""

    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def timestamp(self) -> tuple[int, int]: ...
    def headers(self) -> list[tuple[str, bytes]] | None: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def error(self) -> Any: ...
    def __len__(self) -> int: ...


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Records of one topic, from many partitions, decoded to columns.

    `frame` is sorted by (partition, offset) and has the columns `index` (UInt32, the position in
    `messages`), `partition` (Int32), `offset` (Int64) and `append_time` (Int64, ms).
    """

    topic: str
    messages: Sequence[Record]
    frame: pl.DataFrame
    rejects: Sequence[Any] = ()


@dataclass(frozen=True, kw_only=True)
class Output:
    """Rows for one topic, already encoded, that join the current transaction.

    `topic` is the unqualified name; a value of None is a tombstone; `partitions` is one for each
    row, one for all, or None: by the key's murmur2 hash, as Kafka's own clients do.
    """

    topic: str
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    partitions: Sequence[int] | int | None = None
    headers: Sequence[tuple[str, bytes]] | None = None

    def rows(self) -> Iterator[tuple[bytes | None, bytes | None, int]]:
        """Key, value and partition of each row; -1 is a partition chosen by key."""
        partitions = self.partitions
        if partitions is None or isinstance(partitions, int):
            partitions = [-1 if partitions is None else partitions] * len(self.keys)
        return zip(self.keys, self.values, partitions, strict=True)


class Task:
    """Subclass it; the module docstring says when each method is called."""

    #: Unqualified name of the input topic.
    topic: str
    #: Changelog topics it owns, co-partitioned with the input.
    changelogs: tuple[str, ...] = ()
    #: Columns to decode; None is all of them.
    columns: frozenset[str] | None = None
    #: Its input is what other tasks of the app have just written: it is passed on between two
    #: barriers. That commit asks all tasks for `metadata` and `snapshot`, which are as at the last.
    relays: bool = False
    #: False while rows are held back by throttling: a worker that runs until the end waits.
    settled: bool = True
    #: What brings a snapshot to a later commit: the changelogs' rows or the input since then.
    tail: Literal["changelogs", "input"] = "changelogs"
    #: What a snapshot depends on beside the log: definitions, settings, its own format.
    identity: str = ""

    def process(self, batch: Batch) -> None:
        """Advance the working state by a batch. May raise: the batch is then tried again."""
        raise NotImplementedError

    def flush(self, now: float) -> Iterable[Output]:
        """Rows to write at this barrier. `now` is monotonic seconds, for throttling only."""
        return ()

    def commit(self) -> None:
        """Make the working state the stable one."""

    def abort(self) -> None:
        """Go back to the stable state."""

    def metadata(self, partition: int) -> str:
        """Up to 1 KB of text to keep with the partition's committed offset."""
        return ""

    def resume_from(self, partition: int, offset: int, metadata: str) -> int:
        """First input offset to read again so as to rebuild state; `offset` itself for none."""
        return offset

    def snapshot(self) -> Callable[[int], bytes] | None:
        """The stable state, to be written by partition in another thread; None: not this task's."""
        return None

    def load(self, partition: int, snapshot: memoryview, at: int, offset: int, text: str) -> bool:
        """Take up a snapshot of input offset `at` instead of `resume_from`.

        `offset` and its metadata `text` are what the group has committed, now or later than that;
        `restore` or `replay` brings the state there. False: of no use, everything is restored.
        """
        return False

    def restore(
        self, changelog: str, keys: list[bytes], values: list[bytes | None], partition: int
    ) -> None:
        """Rows of a changelog, in order, in chunks."""

    def replay(self, batch: Batch) -> None:
        """Input below the committed offset, read again in order: rebuild state, emit nothing."""

    def restored(self, partitions: set[int]) -> None:
        """Everything of these partitions has been handed over."""

    def revoke(self, partitions: set[int]) -> None:
        """Forget these partitions."""

    def ticks(self, now_ms: int, idle: set[int]) -> Iterable[Output]:
        """Records that make time pass on these input partitions, which have nothing unread."""
        return ()
