"""The transaction's answers to what librdkafka may say, with a producer that says it."""

import threading
from typing import ClassVar

import pytest
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from streamgauge.streams.engine import transaction
from streamgauge.streams.engine.errors import Fenced, Rollback, Unwritable
from streamgauge.streams.engine.task import Output
from streamgauge.streams.engine.transaction import Ambiguous, PlainCommits, Transactions


def kafka_error(code, **flags):
    return KafkaException(KafkaError(code, "said", **flags))


class Producer:
    """Says what it is told to, call by call; None is success."""

    made: ClassVar[list["Producer"]] = []
    script: ClassVar[dict[str, list]] = {}

    def __init__(self, settings):
        self.settings, self.calls, self.rows = settings, [], []
        Producer.made.append(self)

    def _say(self, call, result=None):
        self.calls.append(call)
        said = Producer.script.get(call, [])
        if said and (error := said.pop(0)) is not None:
            raise error
        return result

    def init_transactions(self, timeout):
        return self._say("init")

    def begin_transaction(self):
        return self._say("begin")

    def produce(self, topic, value, key, partition, on_delivery=None, headers=None):
        self._say("produce")
        self.rows.append((topic, key, value, partition))

    def poll(self, timeout):
        return self._say("poll")

    def flush(self, timeout):
        return self._say("flush", 0)

    def send_offsets_to_transaction(self, offsets, group, timeout):
        return self._say("offsets")

    def commit_transaction(self, timeout):
        return self._say("commit")

    def abort_transaction(self, timeout):
        return self._say("abort")


@pytest.fixture
def opened(monkeypatch):
    Producer.made, Producer.script = [], {}
    monkeypatch.setattr(transaction, "Producer", Producer)
    made = Transactions({"bootstrap.servers": "x"}, "id", namespace="ns", timeout=0.2)
    made.open()
    return made


OFFSETS = [TopicPartition("t", 0, 1)]


def test_rows_offsets_and_commit_come_in_this_order(opened):
    opened.write(Output(topic="out", keys=[b"k"], values=[b"v"], partitions=2))
    opened.commit(OFFSETS, "group", None)
    (producer,) = Producer.made
    assert producer.rows == [("ns.out", b"k", b"v", 2)]
    assert producer.calls == ["init", "begin", "produce", "flush", "offsets", "commit"]
    assert not opened.begun


def test_a_full_queue_is_drained_and_the_row_sent(opened):
    Producer.script = {"produce": [BufferError("full"), None]}
    opened.write(Output(topic="out", keys=[b"k"], values=[b"v"]))
    assert len(Producer.made[0].rows) == 1


def test_a_retriable_commit_is_tried_again(opened):
    Producer.script = {"commit": [kafka_error(KafkaError._TIMED_OUT, retriable=True), None]}
    opened.commit(OFFSETS, "group", None)
    assert Producer.made[0].calls.count("commit") == 2


def test_a_commit_that_times_out_for_good_is_ambiguous(opened):
    error = kafka_error(KafkaError._TIMED_OUT, retriable=True)
    Producer.script = {"commit": [error] * 100_000}
    with pytest.raises(Ambiguous):
        opened.commit(OFFSETS, "group", None)
    opened.open()
    assert len(Producer.made) == 2  # a late EndTxn of the first can end nothing of the second


def test_a_thread_that_was_given_up_cannot_reach_the_next_producer(opened):
    outcome = []

    def late():
        try:
            opened.write(Output(topic="out", keys=[b"k"], values=[b"v"]))
        except Rollback as exc:
            outcome.append(exc)

    thread = threading.Thread(target=late)
    opened.abandon(thread)
    opened.open()
    thread.start()
    thread.join()
    assert len(outcome) == 1
    assert Producer.made[1].rows == []


def test_a_producer_that_could_not_start_is_not_taken_for_one(opened):
    Producer.script = {"init": [kafka_error(KafkaError._FAIL)]}
    with pytest.raises(KafkaException):
        opened.open()
    opened.abort()  # tries to start one again
    opened.write(Output(topic="out", keys=[b"k"], values=[b"v"]))
    assert Producer.made[2].calls == ["init", "begin", "produce"]


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (kafka_error(KafkaError.PRODUCER_FENCED, fatal=True), Fenced),
        (kafka_error(KafkaError.ILLEGAL_GENERATION, txn_requires_abort=True), Rollback),
        (kafka_error(KafkaError.MSG_SIZE_TOO_LARGE), Unwritable),
    ],
)
def test_what_offsets_may_be_answered_with(opened, error, raised):
    Producer.script = {"offsets": [error]}
    with pytest.raises(raised):
        opened.commit(OFFSETS, "group", None)


def test_a_failed_abort_starts_a_new_producer(opened):
    opened.write(Output(topic="out", keys=[b"k"], values=[b"v"]))
    Producer.script = {"abort": [kafka_error(KafkaError._STATE)]}
    opened.abort()
    assert len(Producer.made) == 2
    assert not opened.begun


def test_an_abort_without_a_transaction_does_nothing(opened):
    opened.abort()
    assert Producer.made[0].calls == ["init"]


def test_opening_waits_for_the_coordinator(opened):
    Producer.script = {"init": [kafka_error(KafkaError._TIMED_OUT, retriable=True), None]}
    opened.open()
    assert Producer.made[1].calls == ["init", "init"]


def test_plain_commits_use_no_transaction(monkeypatch):
    Producer.made, Producer.script = [], {}
    monkeypatch.setattr(transaction, "Producer", Producer)
    plain = PlainCommits({"bootstrap.servers": "x"}, "id")
    plain.write(Output(topic="out", keys=[b"k"], values=[b"v"]))
    committed = []

    class Consumer:
        def commit(self, offsets, asynchronous):
            committed.extend(offsets)

    plain.commit(OFFSETS, None, Consumer())
    plain.abort()
    plain.close()
    assert committed == OFFSETS
    assert "transactional.id" not in Producer.made[0].settings
    assert Producer.made[0].calls == ["produce", "flush", "flush"]
