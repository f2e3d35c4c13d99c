"""Messages to batches: decoded for one sink, and what could not be decoded counted.

Upstream: the buffer. Downstream: the sink's `write`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import polars as pl
from confluent_kafka import Message

from streamgauge.schemas.codec import MAGIC
from streamgauge.schemas.columnar import Decoder
from streamgauge.schemas.errors import UnknownSchema
from streamgauge.schemas.registry import Registry
from streamgauge.schemas.reject import Reject
from streamgauge.schemas.topics import EVENTS
from streamgauge.sinks.sink import Batch, Range, Sink
from streamgauge.sinks.telemetry import REJECTS

log = logging.getLogger(__name__)


class Batches:
    """Makes the batches of one sink."""

    def __init__(self, kind: str, sink: Sink, registry: Registry) -> None:
        self._kind = kind
        self._registry = registry
        self._types = sink.types
        self._taken: dict[bytes, bool] = {}
        self._decoders = {
            topic: Decoder(registry, topic, columns, open_ended=columns is None)
            for topic, columns in sink.topics.items()
        }

    def make(self, topic: str, messages: Sequence[Message], ranges: Mapping[int, Range]) -> Batch:
        """May raise a retryable RegistryError; the messages can then be given again."""
        if topic in self._types:
            names = self._types[topic]
            messages = [m for m in messages if self._takes(names, m.value())]
        decoded = self._decoders[topic].decode(messages)  # type: ignore[arg-type]
        self._count(topic, decoded.rejects)
        index = {(m.partition(), m.offset()): i for i, m in enumerate(messages)}
        keys = [m.key() for m in messages]
        dead = decoded.tombstones
        return Batch(
            topic=topic,
            ranges=ranges,
            frame=decoded.frame.with_columns(
                message_key=pl.Series(keys, dtype=pl.Binary).gather(decoded.frame["index"])
            ),
            tombstones=pl.DataFrame(
                {
                    "partition": pl.Series([messages[i].partition() for i in dead], dtype=pl.Int32),
                    "offset": pl.Series([messages[i].offset() for i in dead], dtype=pl.Int64),
                    "key": pl.Series([keys[i] for i in dead], dtype=pl.Binary),
                }
            ),
            messages=messages,
            reasons={index[r.partition, r.offset]: r.reason for r in decoded.rejects},
        )

    def _takes(self, names: frozenset[str], value: bytes | None) -> bool:
        """Whether the record is of a type that the sink takes; what is unknown is none."""
        if value is None or value[:1] != MAGIC:
            return False
        head = value[:5]
        taken = self._taken.get(head)
        if taken is None:
            try:
                name = self._registry.schema(int.from_bytes(head[1:]))["name"]
                taken = name.rpartition(".")[2] in names
            except UnknownSchema:
                taken = False
            self._taken[head] = taken
        return taken

    def _count(self, topic: str, rejects: Sequence[Reject]) -> None:
        if not rejects:
            return
        REJECTS.labels(self._kind, topic).inc(len(rejects))
        # Events that cannot be read are dead letters already, by the worker.
        if topic != EVENTS.name:
            first = rejects[0]
            log.error(
                "%d records of %s cannot be decoded and are left out; the first, %d/%d: %s (%s)",
                *(len(rejects), topic, first.partition, first.offset, first.reason, first.detail),
            )
