"""The loop between consumer and sink, step by step, with a consumer that does as it is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Message, TopicPartition

from streamgauge.sinks import session as module
from streamgauge.sinks.batches import Batches
from streamgauge.sinks.errors import Fatal, Fenced, Retryable, Rewound
from streamgauge.sinks.health import Progress
from streamgauge.sinks.outage import Outage
from streamgauge.sinks.redis.sink import RedisSink
from streamgauge.sinks.session import Session
from streamgauge.sinks.sink import Batch, Log, Range

Step = Callable[["Kafka"], list[Message]]


class Kafka:
    """A consumer whose every `consume` is one step of a script."""

    def __init__(self, steps: list[Step]) -> None:
        self.steps = steps
        self.paused: list[bool] = []
        self.assigned: list[Any] = []
        self.watermarks: Any = (0, 100)

    def __call__(self, conf: Any) -> Kafka:
        return self

    def subscribe(self, topics: Any, **callbacks: Any) -> None:
        self._callbacks = callbacks

    def assign(self, partitions: list[TopicPartition]) -> None:
        self.assigned.append([(p.partition, p.offset) for p in partitions])

    def unassign(self) -> None:
        self.assigned.append(None)

    def consume(self, number: int, timeout: float) -> list[Message]:
        messages = self.steps.pop(0)(self)
        return [] if self.paused[-1:] == [True] else messages  # a new assignment changes nothing

    def give(self, *partitions: int) -> None:
        self._callbacks["on_assign"](self, [TopicPartition("metrics", p) for p in partitions])

    def take(self) -> None:
        self._callbacks["on_revoke"](self, [])

    def lose(self) -> None:
        self._callbacks["on_lost"](self, [])

    def get_watermark_offsets(self, _: Any, timeout: float = 0, cached: bool = False) -> Any:
        if isinstance(self.watermarks, Exception):
            raise self.watermarks
        return self.watermarks

    def commit(self, **_: Any) -> None:
        raise KafkaException(KafkaError(KafkaError.REBALANCE_IN_PROGRESS))  # nobody minds

    def pause(self, _: Any) -> None:
        self.paused.append(True)

    def resume(self, _: Any) -> None:
        self.paused.append(False)

    def close(self) -> None:
        self.take()


class Memory:
    """A sink that remembers what it was told, and fails when it is to."""

    topics = RedisSink.topics
    types = RedisSink.types

    def __init__(self) -> None:
        self.opened: list[set[int]] = []
        self.written: list[Batch] = []
        self.tried: list[Batch] = []
        self.failures: list[Exception] = []
        self.resume: int | None = None

    def open(self, partitions: Any) -> Any:
        self.opened.append({p for _, p in partitions})
        if self.failures:
            raise self.failures.pop(0)
        return dict.fromkeys(partitions, self.resume)

    def write(self, batch: Batch) -> None:
        self.tried.append(batch)
        if self.failures:
            raise self.failures.pop(0)
        self.written.append(batch)

    def close(self) -> None: ...

    def rows(self) -> list[tuple[int, int]]:
        return [row for b in self.written for row in b.frame.select("partition", "offset").rows()]


class Logs:
    def of(self, topics: Any) -> Any:
        return dict.fromkeys(topics, Log())


@pytest.fixture
def sink() -> Memory:
    return Memory()


@pytest.fixture
def row(message: Any, update: Any) -> Any:
    """A record of `metrics`, each with a key of its own."""
    return lambda partition, offset: message(
        "metrics", partition, offset, update(f"{offset}", 1.0), f"{offset}"
    )


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch, registry: Any, sink: Memory) -> Any:
    """Run a session through a script, and close it."""

    def run(*steps: Step, watermarks: Any = (0, 100), interval: float = 0.0) -> Kafka:
        kafka = Kafka(list(steps))
        kafka.watermarks = watermarks
        monkeypatch.setattr(module, "Consumer", kafka)
        monkeypatch.setattr("streamgauge.sinks.outage.FIRST", 0.0)
        session = Session(
            kind="test",
            sink=sink,
            batches=Batches("test", sink, registry),
            logs=Logs(),  # type: ignore[arg-type]
            conf={},
            namespace="",
            interval=interval,
            rows=1000,
            bytes=1 << 20,
            progress=Progress("me"),
            outage=Outage("test"),
        )
        session.run(lambda: not kafka.steps)
        return kafka

    return run


def nothing(_: Kafka) -> list[Message]:
    return []


def give(*partitions: int) -> Step:
    return lambda kafka: kafka.give(*partitions) or []  # type: ignore[func-returns-value]


def read(*messages: Message) -> Step:
    return lambda _: list(messages)


def end(offset: int) -> Message:
    return Message(
        topic="metrics", partition=0, offset=offset, error=KafkaError(KafkaError._PARTITION_EOF)
    )


def test_nothing_is_fetched_before_the_sink_has_said_where_from(play: Any, sink: Memory) -> None:
    sink.resume = 7
    kafka = play(give(0), nothing)
    assert kafka.assigned[:2] == [[], [(0, 7)]]


def test_what_was_read_is_written_up_to_its_end(play: Any, sink: Memory, row: Any) -> None:
    play(give(0), read(row(0, 0), row(0, 1), end(3)))
    assert sink.rows() == [(0, 0), (0, 1)]
    assert sink.written[0].ranges == {0: Range(start=0, end=3)}


def test_what_comes_along_with_a_rebalance_is_neither_written_nor_counted(
    play: Any, sink: Memory, row: Any
) -> None:
    def rebalanced(kafka: Kafka) -> list[Message]:
        kafka.take()
        kafka.give(1)
        return [row(0, 5), row(1, 50)]  # collected before it, handed out after it

    play(give(0, 1), read(row(0, 4)), rebalanced, read(row(1, 0)))
    assert sink.rows() == [(0, 4), (1, 0)]
    assert sink.written[-1].ranges == {1: Range(start=0, end=1)}


def test_what_waits_for_its_interval_is_written_when_revoked(
    play: Any, sink: Memory, row: Any
) -> None:
    def revoked(kafka: Kafka) -> list[Message]:
        assert sink.rows() == [(0, 0)]
        kafka.take()
        assert sink.rows() == [(0, 0), (0, 1)]
        return []

    play(give(0), read(row(0, 0)), read(row(0, 1)), revoked, interval=60.0)


def test_lost_partitions_are_not(play: Any, sink: Memory, row: Any) -> None:
    def lost(kafka: Kafka) -> list[Message]:
        kafka.lose()
        return [row(0, 0)]

    play(give(0), lost)
    assert sink.written == []


def test_during_an_outage_reading_pauses_and_the_same_batch_is_tried_again(
    play: Any, sink: Memory, row: Any
) -> None:
    def fails(_: Kafka) -> list[Message]:
        sink.failures = [Retryable("gone"), Retryable("gone")]
        return [row(0, 0)]

    kafka = play(give(0), fails, nothing, nothing, read(row(0, 1)))
    assert sink.rows() == [(0, 0), (0, 1)]
    assert sink.tried[0] is sink.tried[1] is sink.tried[2]
    assert kafka.paused == [False, True, False]


def test_after_an_outage_that_lost_data_everything_is_read_again(
    play: Any, sink: Memory, row: Any
) -> None:
    def fails(_: Kafka) -> list[Message]:
        sink.failures = [Retryable("gone"), Rewound("empty since")]
        return [row(0, 0)]

    play(give(0), fails, nothing, nothing, read(row(0, 0)))
    assert sink.opened == [{0}, {0}]
    assert sink.rows() == [(0, 0)]


def test_an_outage_while_opening_is_waited_for(play: Any, sink: Memory, row: Any) -> None:
    sink.failures = [Retryable("gone")]
    play(give(0), nothing, read(row(0, 0)))
    assert sink.opened == [{0}, {0}]
    assert sink.rows() == [(0, 0)]


def test_a_fence_ends_it_and_closing_writes_no_more(play: Any, sink: Memory, row: Any) -> None:
    def fenced(_: Kafka) -> list[Message]:
        sink.failures = [Fenced("somebody else")]
        return [row(0, 0)]

    with pytest.raises(Fenced):
        play(give(0), fenced, nothing)
    assert len(sink.tried) == 1


@pytest.mark.parametrize(
    "watermarks", [None, KafkaException(KafkaError(KafkaError._TRANSPORT)), (0, 3)]
)
def test_a_broker_that_does_not_answer_well_is_an_outage(
    play: Any, sink: Memory, watermarks: Any, caplog: pytest.LogCaptureFixture
) -> None:
    sink.resume = 7
    play(give(0), nothing, watermarks=watermarks)
    assert "pauses" in caplog.text
    assert sink.written == []


def test_an_unwritten_rest_at_the_end_is_told(
    play: Any, sink: Memory, row: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    def last(_: Kafka) -> list[Message]:
        sink.failures = [Retryable("gone")]
        return [row(0, 1)]

    play(give(0), read(row(0, 0)), last, interval=60.0)
    assert sink.rows() == [(0, 0)]
    assert "leaves records unwritten" in caplog.text


def test_errors_of_kafka_are_told_once_and_fatal_ones_end_it(
    play: Any, caplog: pytest.LogCaptureFixture
) -> None:
    passing = Message(topic="metrics", error=KafkaError(KafkaError._ALL_BROKERS_DOWN))
    fatal = Message(topic="metrics", error=KafkaError(KafkaError._FATAL, "no", True))
    with pytest.raises(Fatal, match="Kafka"):
        play(read(passing), read(passing), read(fatal), nothing)
    assert len([r for r in caplog.records if r.getMessage().startswith("Kafka: ")]) == 1
