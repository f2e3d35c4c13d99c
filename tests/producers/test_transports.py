"""One suite for all ways out, and what each of them alone can meet."""

import json
import os
import socket
import threading
import time
import warnings

import pytest
from confluent_kafka import KafkaError, KafkaException

from streamgauge.producers import Client, Unavailable, Undelivered
from streamgauge.producers.collector_transport import CollectorTransport
from streamgauge.producers.kafka_transport import KafkaTransport
from streamgauge.producers.preparation import Ready
from streamgauge.producers.testing import RecordingTransport
from streamgauge.producers.transport import Again, Delivered, Refused
from streamgauge.producers.undeclared import read_event
from streamgauge.schemas.errors import RegistryError
from streamgauge.schemas.events import Custom, PageView, Search
from streamgauge.schemas.unknown import UnknownTypes

from .collector_double import CollectorDouble, reply

NOWHERE = "127.0.0.1:1"


def ready(*events):
    return [Ready(event.event_id, event, 500) for event in events]


def searches(count, user="ann"):
    return ready(*(Search(user_id=user, query=str(number)) for number in range(count)))


@pytest.fixture
def collector():
    double = CollectorDouble()
    yield double
    double.close()


class Kafka:
    """The way straight to the broker, and what is in the topic then."""

    def __init__(self, broker, registry, namespace, read, codec):
        self.transport = KafkaTransport({"bootstrap.servers": broker}, registry, namespace)
        self.topic = f"{namespace}.events"
        self._read, self._codec = read, codec

    def arrived(self):
        records = [self._codec.decode(m.value()).record for m in self._read(self.topic)]
        return [record["event_id"] for record in records]


class Http:
    def __init__(self, double):
        self.transport = CollectorTransport(double.address, "key")
        self._double = double

    def arrived(self):
        return [event["event_id"] for event in self._double.events]


class Memory:
    def __init__(self):
        self.transport = RecordingTransport()

    def arrived(self):
        return [event.event_id for event in self.transport.events]


@pytest.fixture(params=["kafka", "collector", "memory"])
def way(request, broker, registry, namespace, read, codec, collector):
    if request.param == "kafka":
        made = Kafka(broker, registry, namespace, read, codec)
    else:
        made = Http(collector) if request.param == "collector" else Memory()
    yield made
    made.transport.close()


# -- all of them ------------------------------------------------------------------------------


def test_every_event_is_answered_in_order_and_arrives(way):
    batch = searches(50)
    answers = way.transport.send(batch, 20)
    assert len(answers) == 50
    assert all(isinstance(answer, Delivered) for answer in answers)
    assert way.arrived() == [one.event_id for one in batch]


def test_events_of_one_user_stay_in_order_over_batches(way):
    batches = [searches(20) for _ in range(3)]
    for batch in batches:
        way.transport.send(batch, 20)
    assert way.arrived() == [one.event_id for batch in batches for one in batch]


def test_all_kinds_of_values_arrive(way):
    event = Custom(
        user_id="ann",
        name='ünï\u2028 "quoted"\n',
        properties={"a": 1, "b": None, "c": {"d": [1.5, True]}},
        timestamp=1_760_000_000_000,
    )
    assert isinstance(way.transport.send(ready(event), 20)[0], Delivered)
    assert way.arrived() == [event.event_id]


def test_it_can_be_closed_twice_and_abandoned(way):
    way.transport.close()
    way.transport.close()
    way.transport.abandon()


# -- Kafka ------------------------------------------------------------------------------------


def test_kafka_says_where_an_event_is(broker, registry, namespace):
    transport = KafkaTransport({"bootstrap.servers": broker}, registry, namespace)
    first, second = transport.send(searches(2), 20)
    assert (second.partition, second.offset) == (first.partition, first.offset + 1)
    transport.close()


def test_an_unreachable_kafka_is_given_up_within_the_timeout_and_made_anew(registry):
    made = []

    def make(settings):
        made.append(settings)
        return Producer(settings)

    from confluent_kafka import Producer

    transport = KafkaTransport({"bootstrap.servers": NOWHERE}, registry, make_producer=make)
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(Unavailable, match="acknowledged none of 3"):
            transport.send(searches(3), 0.3)
        assert time.monotonic() - began < 30
    assert len(made) == 2
    transport.close()


class Scripted:
    """A librdkafka that does what it is told to."""

    def __init__(self, *reports):
        self.reports = list(reports)
        self.heard = []

    def produce(self, topic, value, key, on_delivery):
        report = self.reports.pop(0)
        if isinstance(report, Exception):
            raise report
        self.heard.append((on_delivery, report))

    def flush(self, timeout):
        for on_delivery, report in self.heard:
            if report != "silent":
                on_delivery(None if report == "ok" else KafkaError(report), Message())
        self.heard = []
        time.sleep(0.01)

    def poll(self, timeout):
        return 0

    def purge(self):
        pass


class Message:
    def partition(self):
        return 0

    def offset(self):
        return 7


def scripted(registry, *producers):
    left = list(producers)
    return KafkaTransport({}, registry, make_producer=lambda _: left.pop(0))


def test_each_events_own_error_is_its_answer(registry):
    producer = Scripted(
        "ok",
        KafkaError.MSG_SIZE_TOO_LARGE,
        KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)),
        BufferError(),
        "ok",
        KafkaError.NOT_ENOUGH_REPLICAS,
    )
    apart = Scripted("ok", KafkaError.MSG_SIZE_TOO_LARGE)  # Kafka refuses a batch as a whole
    answers = scripted(registry, producer, apart).send(searches(5), 20)
    assert [type(answer) for answer in answers] == [Delivered, Delivered, Refused, Delivered, Again]
    assert answers[2].reason == "too_large"


def test_what_is_not_heard_of_when_sent_apart_is_sent_again(registry):
    too_large = KafkaError.MSG_SIZE_TOO_LARGE
    producers = Scripted("ok", too_large, too_large), Scripted("silent", "ok"), Scripted("ok")
    transport = scripted(registry, *producers)
    answers = transport.send(searches(3), 0.3)
    assert [type(answer) for answer in answers] == [Delivered, Again, Delivered]
    assert isinstance(transport.send(searches(1), 0.3)[0], Delivered)


def test_an_undeclared_event_becomes_a_dead_letter_and_its_caller_is_told(
    broker, registry, namespace, read, codec
):
    given = {"event_type": "cart", "event_id": "e1", "user_id": "ann", "timestamp": 9, "items": [1]}
    event = read_event(given, UnknownTypes.parse("dead-letter"))
    transport = KafkaTransport({"bootstrap.servers": broker}, registry, namespace)
    for _ in range(2):  # a second one replaces the first
        (answer,) = transport.send(ready(event), 20)
        assert isinstance(answer, Refused) and "'cart'" in answer.detail
    transport.close()
    first, second = read(f"{namespace}.dead-letters")
    assert first.key() == second.key()
    letter = codec.decode(first.value()).record
    assert json.loads(letter["payload"]) == given
    assert letter["reason"] == "unknown_type"


def test_a_producer_that_falls_silent_is_replaced_and_nobody_waits_for_it(registry):
    # librdkafka has been seen not to come back after a bounce until its messages timed out.
    silent, fresh = Scripted("ok", "silent"), Scripted("ok")
    transport = scripted(registry, silent, fresh)
    first, second = transport.send(searches(2), 0.1)
    assert isinstance(first, Delivered)
    assert isinstance(second, Again)
    assert isinstance(transport.send(searches(1), 0.1)[0], Delivered)
    assert not fresh.reports


def test_a_producer_whose_messages_all_timed_out_is_replaced(registry):
    timed_out = KafkaError._MSG_TIMED_OUT
    transport = scripted(registry, Scripted(timed_out, timed_out), Scripted("ok"))
    with pytest.raises(Unavailable):
        transport.send(searches(2), 20)
    assert isinstance(transport.send(searches(1), 20)[0], Delivered)


def test_a_fatal_error_replaces_the_producer(registry):
    fatal = KafkaException(KafkaError(KafkaError._FENCED, fatal=True))
    transport = scripted(registry, Scripted(fatal), Scripted("ok"))
    assert isinstance(transport.send(searches(1), 20)[0], Again)
    assert isinstance(transport.send(searches(1), 20)[0], Delivered)


def test_a_registry_that_is_away_is_waited_for(registry):
    class Away:
        def register(self, subject, schema):
            raise RegistryError("no answer", retryable=True)

    with pytest.raises(Unavailable, match="registry"):
        KafkaTransport({}, Away()).send(searches(1), 1)


def test_settings_that_librdkafka_refuses_are_told(registry, caplog):
    client = Client({"bootstrap.servers": NOWHERE, "no.such": 1}, registry)
    client.track("search", user_id="ann")
    deadline = time.monotonic() + 60
    while "no.such" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "no.such" in caplog.text
    with pytest.raises(Undelivered):
        client.close(0.1)


def test_an_interrupted_send_returns_soon(registry):
    transport = KafkaTransport({"bootstrap.servers": NOWHERE}, registry)
    threading.Timer(0.2, transport.interrupt).start()
    began = time.monotonic()
    with pytest.raises(Unavailable):
        transport.send(searches(1), 60)
    assert time.monotonic() - began < 20


# -- the collector ----------------------------------------------------------------------------


def test_the_batch_is_what_the_collector_reads(collector):
    transport = CollectorTransport(f"{collector.address}/in/", "secret")
    events = ready(
        *(PageView(user_id="ann", page_url="/" + "x" * 50, title=None) for _ in range(30))
    )
    transport.send(events, 20)
    transport.send(searches(1), 20)
    (large, small) = collector.requests
    assert large["path"] == "/in/v1/batch"
    assert large["headers"]["Authorization"] == "Bearer secret"
    assert large["headers"]["Content-Type"] == "application/json"
    assert large["headers"]["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in small["headers"]
    assert large["sent_at"].endswith("Z")
    assert collector.connections == 1
    assert collector.events[0] == events[0].event.model_dump(exclude_none=True)


def test_each_event_has_the_answer_that_names_it(collector):
    def partly(handler, batch):
        told = ["ok", "drop", "retry", "what", "ok"]
        results = [
            {"id": event["event_id"], "status": status, "reason": f"because {status}"}
            for event, status in zip(batch, told, strict=True)
        ]
        results[4]["id"] = "another"
        return reply(handler, 200, {"results": results})

    collector.next.append(partly)
    answers = CollectorTransport(collector.address, "key").send(searches(5), 20)
    assert [type(answer) for answer in answers] == [Delivered, Refused, Again, Again, Again]
    assert answers[1] == Refused("rejected", "because drop")


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_collector_that_is_busy_or_broken_is_tried_later(collector, status):
    collector.next.append(lambda handler, _: reply(handler, status, b"later", Retry_After="7"))
    with pytest.raises(Unavailable, match=f"{status} later") as away:
        CollectorTransport(collector.address, "key").send(searches(3), 20)
    assert away.value.retry_after == 7


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_drops_nothing_and_says_what_to_do(collector, status):
    collector.next.append(lambda handler, _: reply(handler, status, {"error": "who?"}))
    with pytest.raises(Unavailable, match="check endpoint and write_key") as away:
        CollectorTransport(collector.address, "key").send(searches(3), 20)
    assert away.value.retry_after >= 30


@pytest.mark.parametrize(("status", "reason"), [(413, "too_large"), (400, "rejected")])
def test_a_batch_refused_as_a_whole_is_halved_until_one_is_to_blame(collector, status, reason):
    def picky(handler, batch):
        collector.next.append(picky)
        if any(event["query"] == "3" for event in batch):
            return reply(handler, status, b"no")
        return False

    collector.next.append(picky)
    batch = searches(8)
    answers = CollectorTransport(collector.address, "key").send(batch, 20)
    assert [isinstance(answer, Delivered) for answer in answers] == [n != 3 for n in range(8)]
    assert answers[3].reason == reason
    assert [event["query"] for event in collector.events] == list("0124567")


@pytest.mark.parametrize(
    "body",
    [b"", b"fine", b"[]", b"{}", b'{"results": null}', b'{"results": []}', b'{"results": [1]}'],
)
def test_an_answer_that_cannot_be_read_means_again(collector, body):
    collector.next.append(lambda handler, _: reply(handler, 200, body))
    with pytest.raises(Unavailable, match="says nothing"):
        CollectorTransport(collector.address, "key").send(searches(1), 20)


def test_an_answer_of_the_wrong_length_means_again(collector):
    def short(handler, batch):
        return reply(handler, 200, {"results": [{"id": batch[0]["event_id"], "status": "ok"}]})

    collector.next.append(short)
    with pytest.raises(Unavailable):
        CollectorTransport(collector.address, "key").send(searches(2), 20)


def test_a_connection_that_was_closed_while_idle_is_made_anew(collector):
    def last(handler, batch):
        handler.close_connection = True
        return False

    collector.next.append(last)
    transport = CollectorTransport(collector.address, "key")
    transport.send(searches(1), 20)
    time.sleep(0.1)
    transport.send(searches(1), 20)
    assert collector.connections == 2


def test_a_collector_that_hangs_is_given_up_within_the_timeout(collector):
    hangs = threading.Event()
    collector.next.append(lambda *_: hangs.wait(120) or True)
    began = time.monotonic()
    with pytest.raises(Unavailable):
        CollectorTransport(collector.address, "key").send(searches(1), 0.3)
    assert time.monotonic() - began < 30
    hangs.set()


def test_a_collector_that_is_cut_off_in_its_answer_means_again(collector):
    def cut(handler, batch):
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{")
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)
        return True

    collector.next += [cut, cut]
    with pytest.raises(Unavailable):
        CollectorTransport(collector.address, "key").send(searches(1), 20)


def test_a_send_that_waits_can_be_interrupted(collector):
    hangs = threading.Event()
    collector.next.append(lambda *_: hangs.wait(120) or True)
    transport = CollectorTransport(collector.address, "key")
    threading.Timer(0.2, transport.interrupt).start()
    began = time.monotonic()
    with pytest.raises(Unavailable):
        transport.send(searches(1), 60)
    assert time.monotonic() - began < 30
    hangs.set()


def test_the_client_obeys_retry_after_and_sends_everything_once(collector):
    collector.next.append(lambda handler, _: reply(handler, 503, b"", Retry_After="1"))
    with Client(endpoint=collector.address, write_key="key", batch_s=0.01) as client:
        began = time.monotonic()
        ids = [client.track("search", user_id="ann", query=str(n)) for n in range(250)]
        assert client.flush(30) == 0
        assert time.monotonic() - began >= 1
        assert client.stats().delivered == 250
    assert [event["event_id"] for event in collector.events] == ids


def test_events_that_are_to_be_sent_again_keep_their_ids_and_the_others_are_not_repeated(collector):
    def every_second(handler, batch):
        results = [
            {"id": event["event_id"], "status": "ok" if number % 2 else "retry"}
            for number, event in enumerate(batch)
        ]
        collector.events += [event for number, event in enumerate(batch) if number % 2]
        return reply(handler, 200, {"results": results})

    collector.next += [every_second, every_second]
    with Client(endpoint=collector.address, write_key="key", batch_s=0.1) as client:
        ids = [client.track("search", user_id="ann") for _ in range(20)]
        assert client.flush(30) == 0
    assert sorted(event["event_id"] for event in collector.events) == sorted(ids)


def test_a_child_forked_from_a_client_to_kafka_has_a_producer_of_its_own(
    broker, registry, namespace, read, codec
):
    client = Client(broker, registry, namespace, batch_s=0.01)
    client.track("search", user_id="ann", query="before")
    assert client.flush(20) == 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        failure = 1
        try:
            client.track("search", user_id="ann", query="child")
            client.close(20)
            failure = int(client.stats().delivered != 1)
        finally:
            os._exit(failure)
    client.track("search", user_id="ann", query="after")
    client.close(20)
    assert os.waitpid(child, 0)[1] == 0
    records = [codec.decode(message.value()).record for message in read(f"{namespace}.events")]
    assert sorted(record["query"] for record in records) == ["after", "before", "child"]
