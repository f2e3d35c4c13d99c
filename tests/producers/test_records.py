import os
import subprocess
import sys
import threading
import time
import warnings

import pytest
from confluent_kafka import KafkaError, KafkaException

from streamgauge.producers import (
    ClientClosed,
    EventTooLarge,
    QueueFull,
    RecordProducer,
    SendRefused,
    Undelivered,
)
from streamgauge.schemas.events import PageView, Search
from streamgauge.schemas.records import DeadLetter

NOWHERE = "127.0.0.1:1"


@pytest.fixture
def client(broker, registry, namespace):
    with RecordProducer(broker, registry, namespace, log_level=0) as client:
        yield client


@pytest.fixture
def unconnected(registry):
    """A client whose Kafka never answers."""
    clients = []

    def make(**settings):
        clients.append(RecordProducer(NOWHERE, registry, log_level=0, **settings))
        return clients[-1]

    yield make
    for client in clients:
        try:
            client.close(0.1)
        except Undelivered:
            pass


def test_an_event_is_in_the_topic_keyed_by_its_user(client, read, codec):
    sent = PageView(user_id="ann", page_url="/pricing")
    client.send_event(sent)
    assert client.flush() == 0

    (message,) = read(client.topic)
    assert message.key() == b"ann"
    assert codec.decode(message.value()).record == sent.model_dump()


def test_an_event_without_a_user_is_keyed_by_its_anonymous_id(client, read):
    client.send_event(PageView(anonymous_id="cookie-1"))
    client.flush()
    assert read(client.topic)[0].key() == b"cookie-1"


def test_a_full_queue_blocks_and_then_raises(unconnected):
    client = unconnected(max_queue=2, block_ms=150)
    client.send_event(Search(user_id="ann"))
    client.send_event(Search(user_id="ann"))
    began = time.monotonic()
    with pytest.raises(QueueFull, match="not taken") as full:
        client.send_event(Search(user_id="ann"))
    assert time.monotonic() - began >= 0.15
    assert full.value.retryable
    assert client.stats.produced == 2


def test_a_full_queue_takes_the_event_once_there_is_room(broker, registry, namespace):
    with RecordProducer(broker, registry, namespace, max_queue=2, log_level=0) as client:
        for _ in range(20):
            client.send_event(Search(user_id="ann"))
    assert client.stats.acknowledged == 20


def test_closing_tells_how_many_records_were_lost(unconnected):
    client = unconnected()
    client.send_event(Search(user_id="ann"))
    with pytest.raises(Undelivered, match="1 events") as lost:
        client.close(0.1)
    assert lost.value.count == 1
    assert client.stats.failed == 1


def test_a_lost_record_is_logged(unconnected, caplog):
    client = unconnected(message_timeout_ms=100)
    client.send_event(Search(user_id="ann"))
    assert client.flush(5) == 0
    assert client.stats.failed == 1
    assert "was lost" in caplog.text


def test_a_closed_client_takes_nothing(client):
    client.close()
    client.close()
    with pytest.raises(ClientClosed):
        client.send_event(Search(user_id="ann"))


def test_an_event_too_large_for_kafka_is_refused(broker, registry, namespace):
    with RecordProducer(broker, registry, namespace, message_max_bytes=2000) as client:
        with pytest.raises(EventTooLarge, match="shorten"):
            client.send_event(Search(user_id="ann", query="x" * 3000))
        assert client.stats.produced == 0


def test_dead_letters_have_their_own_topic(client, namespace, read, codec):
    letter = DeadLetter(
        topic="file:a.log",
        partition=0,
        offset=7,
        schema_id=None,
        reason="bad_line",
        detail="no",
        payload=b"?",
        key=None,
        failed_at=1,
    )
    client.send_dead_letter(letter)
    client.flush()
    (message,) = read(f"{namespace}.dead-letters")
    assert message.key() == b"file:a.log/0/7"
    assert codec.decode(message.value()).record["payload"] == b"?"


def test_the_topic_of_events_tells_its_partitions(client):
    assert client.partitions() == 4


def test_partitions_of_an_unreachable_kafka_are_an_error_to_retry(unconnected):
    with pytest.raises(SendRefused, match="did not answer") as refused:
        unconnected().partitions(0.2)
    assert refused.value.retryable


@pytest.mark.parametrize(
    ("error", "raised", "retryable"),
    [
        (KafkaError(KafkaError._UNKNOWN_TOPIC), SendRefused, False),
        (KafkaError(KafkaError._STATE, retriable=True), SendRefused, True),
        (KafkaError(KafkaError._FATAL, fatal=True), ClientClosed, False),
    ],
)
def test_a_refusal_of_librdkafka_says_whether_to_try_again(
    client, monkeypatch, error, raised, retryable
):
    class Refusing:
        def produce(self, *_, **__):
            raise KafkaException(error)

        def __getattr__(self, name):
            return getattr(producer, name)

    producer = client._producer
    monkeypatch.setattr(client, "_producer", Refusing())
    with pytest.raises(raised) as refused:
        client.send_event(Search(user_id="ann"))
    assert refused.value.retryable is retryable
    assert client.stats.produced == 0


def test_many_threads_lose_nothing(client, read):
    def work():
        for _ in range(200):
            client.send_event(Search(user_id="ann"))

    threads = [threading.Thread(target=work) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client.flush()
    assert client.stats.acknowledged == 1000
    assert len(read(client.topic)) == 1000


def test_a_forked_child_has_a_producer_of_its_own(broker, registry, namespace, read, codec):
    client = RecordProducer(broker, registry, namespace, linger_ms=300, log_level=0)
    client.send_event(Search(user_id="ann", query="parent before"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        failure = 1
        try:
            client.send_event(Search(user_id="ann", query="child"))
            client.close(10)
            failure = int(client.stats.acknowledged != 1)
        finally:
            os._exit(failure)
    client.send_event(Search(user_id="ann", query="parent after"))
    client.close(10)
    assert os.waitpid(child, 0)[1] == 0

    queries = [codec.decode(message.value()).record["query"] for message in read(client.topic)]
    assert sorted(queries) == ["child", "parent after", "parent before"]
    assert client.stats.acknowledged == 2


SCRIPT = """
import os, sys
from streamgauge.producers import RecordProducer
from streamgauge.schemas.events import Search
client = RecordProducer(sys.argv[1], sys.argv[2], sys.argv[3], linger_ms=500, log_level=0)
client.send_event(Search(user_id="ann", query="parent"))
{then}
"""


def run(then, *arguments):
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SCRIPT.format(then=then), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_what_is_queued_at_exit_is_flushed(broker, registry_url, namespace, read):
    assert run("", broker, registry_url, namespace).returncode == 0
    assert len(read(f"{namespace}.events")) == 1


def test_a_child_that_ends_does_not_send_the_parents_events_again(
    broker, registry_url, namespace, read
):
    then = "pid = os.fork()\nif pid: assert os.waitpid(pid, 0)[1] == 0"
    ended = run(then, broker, registry_url, namespace)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert len(read(f"{namespace}.events")) == 1


def test_events_lost_at_exit_are_logged(registry_url):
    then = "client.close.__func__.__defaults__ = (0.1,)"
    ended = run(then, NOWHERE, registry_url, "ns")
    assert "at exit: 1 events were not acknowledged" in ended.stderr
