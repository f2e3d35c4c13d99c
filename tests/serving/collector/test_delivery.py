"""Records on their way, on a producer that acknowledges and fails as the test says."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException

from streamgauge.serving.collector import delivery, producing
from streamgauge.serving.collector.delivery import Delivery
from streamgauge.serving.collector.intake import Record

RECORDS = [Record("events", b"k", value) for value in (b"a", b"b", b"c")]
TIMED_OUT = KafkaError(KafkaError._MSG_TIMED_OUT)
TOO_LARGE = KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)
DOWN = KafkaError(KafkaError._ALL_BROKERS_DOWN)


class Sent:
    def __init__(self, value: bytes) -> None:
        self._value = value

    def value(self) -> bytes:
        return self._value


class Producer:
    """What librdkafka does, in the test's hand."""

    room = 100
    refuses: KafkaError | None = None
    answers: Callable[[bytes], KafkaError | None]
    metadata: KafkaError | None = None

    apart: KafkaError | None = TOO_LARGE
    """The answer to what is sent apart."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings
        self.queue: deque[tuple[bytes, Any]] = deque()
        self.log: list[tuple[str, bytes]] = []
        sent_apart = settings.get("batch.num.messages") == 1
        self.answers = lambda value: Producer.apart if sent_apart else None

    def produce(self, topic: str, value: bytes, key: bytes, on_delivery: Any) -> None:
        if len(self.queue) >= self.room:
            raise BufferError
        if self.refuses:
            raise KafkaException(self.refuses)
        self.queue.append((value, on_delivery))
        self.log.append((topic, value))

    def poll(self, timeout: float) -> None:
        while self.queue:
            value, on_delivery = self.queue.popleft()
            on_delivery(self.answers(value), Sent(value))

    def list_topics(self, topic: str, timeout: float) -> None:
        if self.metadata:
            raise KafkaException(self.metadata)

    def __len__(self) -> int:
        return len(self.queue)


class Waiting:
    """A spool in memory."""

    def __init__(self, most: int = 100) -> None:
        self.kept: list[Record] = []
        self.most = most
        self.has_room = True
        self.closed = False

    @property
    def records(self) -> int:
        return len(self.kept)

    async def append(self, records: Sequence[Record]) -> bool:
        self.has_room = len(self.kept) + len(records) <= self.most
        if self.has_room:
            self.kept += records
        return self.has_room

    async def head(self) -> Sequence[Record]:
        return self.kept[:2]

    async def advance(self) -> None:
        del self.kept[:2]

    def close(self) -> None:
        self.closed = True


Test = Callable[[Delivery, Producer], Any]


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Runs a test's coroutine on a delivery with a spool, or without."""
    monkeypatch.setattr(producing, "Producer", Producer)
    monkeypatch.setattr(delivery, "PROBE_S", 0.01)

    def run(test: Test, buffer: Waiting | None = None) -> None:
        async def main() -> None:
            made = Delivery("k:1", "ns", buffer=buffer, ack_seconds=1, on_fatal=lambda: None)
            made.start()
            await test(made, made._kafka._together)  # type: ignore[arg-type]
            await made.close()

        asyncio.run(main())

    return run


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not what():
            await asyncio.sleep(0.005)


def test_stored_is_said_after_the_acknowledgement(on: Callable[..., None]) -> None:
    async def test(made: Delivery, producer: Producer) -> None:
        storing = asyncio.create_task(made.store(RECORDS))
        await asyncio.sleep(0)
        assert not storing.done() and made.outstanding == 3
        assert await storing == ["stored"] * 3
        assert producer.log[0] == ("ns.events", b"a")
        assert producer.settings["acks"] == "all" and producer.settings["enable.idempotence"]
        assert await made.store([]) == []

    on(test)


def test_each_record_has_its_own_end(on: Callable[..., None]) -> None:
    async def test(made: Delivery, producer: Producer) -> None:
        producer.answers = {b"a": None, b"b": TOO_LARGE, b"c": TIMED_OUT}.__getitem__
        assert await made.store(RECORDS) == ["stored", "refused", "retry"]
        assert made.away and not made.accepts

    on(test)


def test_a_full_queue_is_a_retry_or_goes_to_the_spool(on: Callable[..., None]) -> None:
    async def full(made: Delivery, producer: Producer) -> None:
        producer.room = 2
        assert await made.store(RECORDS) == ["stored", "stored", "retry"]
        assert not made.away

    async def spooled(made: Delivery, producer: Producer) -> None:
        producer.room = 2
        assert await made.store(RECORDS) == ["stored"] * 3

    on(full)
    on(spooled, Waiting())


def test_a_record_that_librdkafka_refuses_is_refused(on: Callable[..., None]) -> None:
    async def test(made: Delivery, producer: Producer) -> None:
        producer.refuses = TOO_LARGE
        assert await made.store(RECORDS[:1]) == ["refused"]

    on(test)


def test_a_small_record_is_not_refused_for_the_batch_it_was_in(
    on: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(made: Delivery, producer: Producer) -> None:
        producer.answers = {b"a": TOO_LARGE, b"b": TOO_LARGE, b"c": None}.__getitem__
        monkeypatch.setattr(Producer, "apart", None)
        assert await made.store(RECORDS) == ["stored"] * 3
        monkeypatch.setattr(Producer, "apart", TOO_LARGE)
        assert await made.store(RECORDS) == ["refused", "refused", "stored"]

    on(test)


def test_while_kafka_is_away_the_spool_takes_all_and_is_then_sent_in_order(
    on: Callable[..., None],
) -> None:
    buffer = Waiting()

    async def test(made: Delivery, producer: Producer) -> None:
        producer.answers = lambda value: TIMED_OUT
        assert await made.store(RECORDS) == ["stored"] * 3
        assert made.away and made.accepts
        sent = len(producer.log)
        later = [Record("dead-letters", b"k", b"d")]
        assert await made.store(later) == ["stored"]
        assert ("ns.dead-letters", b"d") not in producer.log[sent:]
        assert buffer.kept == [*RECORDS, *later]
        producer.log.clear()
        producer.answers = lambda value: None
        await until(lambda: not buffer.kept and not made.away)
        assert list(dict.fromkeys(value for _, value in producer.log)) == [b"a", b"b", b"c", b"d"]

    on(test, buffer)
    assert buffer.closed


def test_a_full_spool_takes_nothing(on: Callable[..., None]) -> None:
    async def test(made: Delivery, producer: Producer) -> None:
        producer.answers = lambda value: TIMED_OUT
        assert await made.store(RECORDS) == ["retry"] * 3
        assert not made.accepts

    on(test, Waiting(most=2))


def test_without_a_spool_it_asks_until_kafka_answers(on: Callable[..., None]) -> None:
    async def test(made: Delivery, producer: Producer) -> None:
        producer.answers = lambda value: TIMED_OUT
        producer.metadata = DOWN
        assert await made.store(RECORDS) == ["retry"] * 3
        await asyncio.sleep(0.05)
        assert not made.accepts
        producer.metadata, producer.answers = None, lambda value: None
        await until(lambda: made.accepts)
        assert await made.store(RECORDS) == ["stored"] * 3

    on(test)


def test_what_an_earlier_process_left_is_sent_at_the_start(on: Callable[..., None]) -> None:
    buffer = Waiting()
    buffer.kept = list(RECORDS)

    async def test(made: Delivery, producer: Producer) -> None:
        await until(lambda: not buffer.kept)
        assert [value for _, value in producer.log] == [b"a", b"b", b"c"]

    on(test, buffer)


def test_a_spooled_record_that_kafka_refuses_does_not_hold_up_the_others(
    on: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    buffer = Waiting()
    buffer.kept = list(RECORDS)

    async def test(made: Delivery, producer: Producer) -> None:
        producer.answers = {b"a": TOO_LARGE, b"b": None, b"c": None}.__getitem__
        await until(lambda: not buffer.kept)
        assert "lost: Kafka refused a record of 1 bytes" in caplog.text

    on(test, buffer)


def test_brokers_that_are_all_down_mean_the_spool_at_once(on: Callable[..., None]) -> None:
    buffer = Waiting()

    async def test(made: Delivery, producer: Producer) -> None:
        producer.settings["error_cb"](DOWN)
        assert made.away
        assert await made.store(RECORDS[:1]) == ["stored"]
        await until(lambda: not made.away)

    on(test, buffer)
