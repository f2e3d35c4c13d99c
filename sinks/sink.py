"""What a sink is: it takes decoded batches, and knows by itself how far it has got.

Upstream: the runner, which reads topics and decodes. Downstream: the three implementations.

Invariants, which one conformance suite checks on every implementation:
- the rows of a partition and its position move together or not at all;
- `open` fences: whoever opened the partition before can write no more (`Fenced`);
- a batch written twice (an answer got lost) leaves what one leaves;
- the newest row of a key wins, whatever is replayed;
- positions belong to one log: a topic made anew is read from its beginning.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl
from confluent_kafka import Message

Partition = tuple[str, int]
"""A topic, by its name without the namespace, and the number of a partition."""


@dataclass(frozen=True, kw_only=True)
class Log:
    """Which log offsets belong to: a topic made anew begins at 0 under another id.

    Empty where the broker does not tell (the embedded one has no topic ids).
    """

    cluster_id: str = ""
    topic_id: str = ""


@dataclass(frozen=True, kw_only=True)
class Range:
    """Offsets `[start, end)` of one partition."""

    start: int
    end: int


NO_KEYS = pl.DataFrame(schema={"partition": pl.Int32, "offset": pl.Int64, "key": pl.Binary})


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What was read of one topic, of all its partitions here, up to certain offsets.

    Of a compacted topic without a history only the newest record of each key; of any other every
    record.
    """

    topic: str
    ranges: Mapping[int, Range]
    """By partition; an empty range only proves that the partition is still ours."""
    frame: pl.DataFrame
    """Decoded records; always has partition, offset, append_time and message_key, and index,
    the position in `messages`."""
    tombstones: pl.DataFrame = field(default_factory=lambda: NO_KEYS)
    """Keys to delete: partition, offset, key."""
    messages: Sequence[Message] = ()
    reasons: Mapping[int, str] = field(default_factory=dict)
    """Why messages (by their index) could not be decoded."""


class Sink(Protocol):
    """A target. Every method may raise `Retryable` (an outage) and `Fatal`."""

    topics: Mapping[str, frozenset[str] | None]
    """What it reads: topics, and the columns it needs of each (None: all)."""
    types: Mapping[str, frozenset[str]]
    """Records it takes, by topic, where it does not take all: `{"events": {"Request"}}`."""

    def open(self, partitions: Mapping[Partition, Log]) -> dict[Partition, int | None]:
        """Take partitions over from whoever had them; the next offsets (None: the beginning).

        Calling it again, for all partitions, is how to go on after `Rewound` or a rebalance.
        """

    def write(self, batch: Batch) -> None:
        """Write one batch. Raises `Fenced` or `Rewound` as well."""

    def close(self) -> None:
        """Let go of connections and files. Never raises."""
