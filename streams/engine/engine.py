"""What the parts of one app share: configuration, tasks, decoders, the transaction."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from confluent_kafka import Producer

from streamgauge.schemas.topics import qualified
from streamgauge.streams.engine import telemetry
from streamgauge.streams.engine.checkpoint import Checkpoints
from streamgauge.streams.engine.task import Batch, Output, Record, Task
from streamgauge.streams.engine.transaction import PlainCommits, Transactions

logger = logging.getLogger(__name__)


class Decoded(Protocol):
    """What a decoder gives: a frame (see `Batch`) and what could not be decoded."""

    @property
    def frame(self) -> Any: ...
    @property
    def rejects(self) -> Sequence[Any]: ...


class Decoder(Protocol):
    """Turns the records of one topic into columns."""

    def decode(self, messages: Sequence[Record]) -> Decoded: ...


class DeadLetters(Protocol):
    """Encodes what cannot be processed."""

    def rejected(self, rejects: Sequence[Any]) -> Output:
        """Rows for records that could not be decoded."""
        ...

    def failed(self, record: Record, error: BaseException | None) -> Output:
        """A row for a record at which an agent or a task raised."""
        ...


class RawDeadLetters:
    """The original bytes, with the reason in the headers; for apps without a registry."""

    def __init__(self, topic: str) -> None:
        self.topic = topic

    def rejected(self, rejects: Sequence[Any]) -> Output:
        return Output(
            topic=self.topic,
            keys=[r.key for r in rejects],
            values=[r.payload for r in rejects],
            headers=[("reason", b"undecodable")],
        )

    def failed(self, record: Record, error: BaseException | None) -> Output:
        place = f"{record.topic()}/{record.partition()}/{record.offset()}"
        return Output(
            topic=self.topic,
            keys=[record.key()],
            values=[record.value()],
            headers=[
                ("reason", b"agent_failed"),
                ("source", place.encode()),
                ("error", repr(error).encode()),
            ],
        )


class Engine:
    """One per app."""

    def __init__(
        self,
        *,
        kafka: Mapping[str, Any],
        group: str,
        worker_id: str,
        namespace: str,
        exactly_once: bool,
        commit_interval: float,
        batch_size: int,
        until_end: bool,
        dead_letters: DeadLetters | None,
        checkpoints: Path | None,
        checkpoint_interval: float,
        renamed: Mapping[str, str],
    ) -> None:
        self.kafka, self.namespace = dict(kafka), namespace
        self.commit_interval, self.batch_size = commit_interval, batch_size
        self.until_end = until_end
        self.dead_letters: DeadLetters = dead_letters or RawDeadLetters(f"{group}-dead-letters")
        self.tasks: list[Task] = []
        self.columnar: set[str] = set()
        #: Those of them whose tasks pass on what they read.
        self.relayed: set[str] = set()
        self._decoders: dict[str, Decoder] = {}
        self._renamed = dict(renamed)
        #: None: state is always restored from Kafka. A plain commit says nothing about states.
        self.checkpoints = Checkpoints(checkpoints, group) if checkpoints and exactly_once else None
        self.checkpoint_interval = checkpoint_interval
        kind = Transactions if exactly_once else PlainCommits
        self.transaction = kind(kafka, f"{group}-{worker_id}", namespace=namespace)
        if not exactly_once:
            logger.warning("plain commits: at least once, for trying things out only")
        self.producing = asyncio.Lock()
        #: Rows sent by timers and services since the last commit: no input would bring them back.
        self.unattached: list[tuple[Any, ...]] = []
        self._ticker: Producer | None = None

    def qualified(self, topic: str) -> str:
        """The topic's name in Kafka."""
        return self._renamed.get(topic) or qualified(self.namespace, topic)

    def unqualified(self, topic: str) -> str:
        """The name that tasks, metrics and the registry know it by."""
        for ours, theirs in self._renamed.items():
            if theirs == topic:
                return ours
        prefix = f"{self.namespace}."
        return topic.removeprefix(prefix) if self.namespace else topic

    def add(self, task: Task) -> str:
        """Register a task; gives the name of its input topic in Kafka."""
        self.tasks.append(task)
        topic = self.qualified(task.topic)
        self.columnar.add(topic)
        if task.relays:
            self.relayed.add(topic)
        return topic

    def open_decoders(self, decoder: Callable[[str, frozenset[str] | None], Decoder]) -> None:
        """One decoder a topic, for the columns that its tasks ask for together."""
        for topic in self.columnar:
            asked = [t.columns for t in self.tasks if self.qualified(t.topic) == topic]
            columns = None if None in asked else frozenset().union(*asked)  # type: ignore[arg-type]
            self._decoders[topic] = decoder(self.unqualified(topic), columns)

    def decode(self, topic: str, messages: Sequence[Record]) -> Batch:
        """Decode once for all tasks."""
        decoded = self._decoders[topic].decode(messages)
        return Batch(
            topic=self.unqualified(topic),
            messages=messages,
            frame=decoded.frame,
            rejects=decoded.rejects,
        )

    def rejected(self, rejects: Sequence[Any]) -> list[Output]:
        """Dead letters for what could not be decoded."""
        for reject in rejects:
            telemetry.REJECTED.labels(reject.reason).inc()
        return [self.dead_letters.rejected(rejects)]

    def failed_record(self, record: Record, error: BaseException | None) -> list[Output]:
        """The dead letter of a record that no agent could process."""
        telemetry.REJECTED.labels("agent_failed").inc()
        logger.error(
            "%s/%d/%d goes to the dead letters: %r",
            record.topic(), record.partition(), record.offset(), error,
        )  # fmt: skip
        return [self.dead_letters.failed(record, error)]

    def tick(self, output: Output) -> None:
        """Append to an input topic, outside any transaction: it is input, not output."""
        if self._ticker is None:
            self._ticker = Producer({"linger.ms": 5, **self.kafka})
        topic = self.qualified(output.topic)
        for key, value, partition in output.rows():
            self._ticker.produce(topic, value, key, partition)
        self._ticker.poll(0)

    def close(self) -> None:
        """Send the ticks that are under way."""
        if self._ticker is not None:
            self._ticker.flush(1)
