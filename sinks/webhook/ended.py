"""Experiments that have ended, with what they found.

    control: buttons v3 is stopped ──> experiment-results: its rows, once they say `stopped` and
                                       have not changed for a while ──> one delivery

Upstream: decoded batches of `control`, which tells of each end once; the worker writes results
again whenever it starts, so they could not. Downstream: `sink.py`.

Invariant: nothing is remembered; what is asked for is read from the topic, from the end on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl
from confluent_kafka import Consumer, KafkaException, TopicPartition

from streamgauge.schemas.codec import Codec
from streamgauge.schemas.experiment_report import document, of_record
from streamgauge.schemas.experiments import KIND, of_body
from streamgauge.schemas.metric_file import DefinitionError
from streamgauge.schemas.topics import EXPERIMENT_RESULTS, qualified
from streamgauge.sinks.errors import Retryable
from streamgauge.sinks.webhook.delivery import Delivery, body

SETTLE_MS = 12_000
"""Results are written every ten seconds while they change."""
TOGETHER_MS = 10_000
"""The longest a transaction lasts: what ends an experiment and its last figures may be in one, and
either may have been appended first."""

Rows = list[tuple[int, Mapping[str, Any]]]
"""Records of an experiment, each with the time at which it was appended."""
Read = Callable[[str, int], Rows]
"""The newest records of an experiment that were written since a time."""


@dataclass(frozen=True, kw_only=True)
class End:
    """The end of an experiment, as the control topic tells it."""

    experiment: str
    version: int
    partition: int
    offset: int
    written_at: int


def ends(frame: pl.DataFrame) -> Iterator[End]:
    """Of the controls in a batch those that stop an experiment which had begun; each once."""
    seen = set()
    for row in frame.sort("partition", "offset").iter_rows(named=True):
        if row["kind"] != KIND or row["body"] is None:
            continue
        try:
            told = of_body(row["name"], row["body"])
        except DefinitionError:  # workers make a dead letter of it
            continue
        if told.state != "stopped" or told.started_at is None or told.name in seen:
            continue
        seen.add(told.name)
        yield End(
            experiment=told.name,
            version=row["version"],
            partition=row["partition"],
            offset=row["offset"],
            written_at=row["append_time"],
        )


def delivery(end: End, rows: Rows) -> Delivery:
    """What is sent of an end."""
    found = [of_record(record) for _, record in rows]
    told = document(end.experiment, "stopped", found)
    return Delivery(
        event=told["event"],
        key=f"{end.experiment}-{end.version}",
        body=body(told),
        topic="control",
        partition=end.partition,
        offset=end.offset,
        written_at=end.written_at,
    )


def settled(rows: Rows, now: int) -> bool:
    """Whether these are the last figures."""
    return bool(rows) and all(
        record["state"] == "stopped" and now - at >= SETTLE_MS for at, record in rows
    )


class Results:
    """Reads them from Kafka."""

    def __init__(self, kafka: Mapping[str, Any], namespace: str, codec: Codec) -> None:
        self._conf = {
            **kafka,
            "group.id": f"{qualified(namespace, EXPERIMENT_RESULTS.name)}-readers",
            "enable.auto.commit": False,  # never committed
            "isolation.level": "read_committed",
            "enable.partition.eof": False,
        }
        self._topic = qualified(namespace, EXPERIMENT_RESULTS.name)
        self._codec = codec

    def __call__(self, experiment: str, since: int, timeout: float = 20.0) -> Rows:
        """See `Read`. All of an experiment is in one partition; which, is the worker's business."""
        newest: dict[bytes, tuple[int, Mapping[str, Any]]] = {}
        begin, deadline = f"{experiment}|".encode(), time.monotonic() + timeout
        consumer = Consumer(self._conf)
        try:
            places, ends = self._assign(consumer, since, timeout)
            while any(at.offset < ends[at.partition] for at in consumer.position(places)):
                if time.monotonic() > deadline:
                    raise Retryable(f"{self._topic} could not be read within {timeout:g} s")
                for message in consumer.consume(1_000, 0.2):
                    key, value = message.key() or b"", message.value()
                    if message.error() is None and value is not None and key.startswith(begin):
                        newest[key] = message.timestamp()[1], self._codec.decode(value).record
        except KafkaException as error:
            raise Retryable(f"Kafka: {error.args[0].str()}") from error
        finally:
            consumer.close()
        return [row for row in newest.values() if row[1]["experiment"] == experiment]

    def _assign(
        self, consumer: Consumer, since: int, timeout: float
    ) -> tuple[list[TopicPartition], dict[int, int]]:
        """From what was written since; returns what is to be read, and its ends."""
        partitions = consumer.list_topics(self._topic, timeout).topics[self._topic].partitions
        asked = [TopicPartition(self._topic, partition, since) for partition in partitions]
        ends, places = {}, []
        for found in consumer.offsets_for_times(asked, timeout):
            low, high = consumer.get_watermark_offsets(found, timeout)
            start = found.offset if found.offset >= 0 else low
            if start < high:
                places.append(TopicPartition(self._topic, found.partition, start))
                ends[found.partition] = high
        consumer.assign(places)
        return places, ends
