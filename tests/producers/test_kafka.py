"""What the mock cluster cannot show: topics that exist or do not, and LogAppendTime."""

import os
import subprocess
import sys
import time
from secrets import token_hex

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streamgauge.cli.stack.process import free_port, listens
from streamgauge.producers import Client, RecordProducer, SendRefused
from streamgauge.producers.simulator import Simulation, simulate
from streamgauge.schemas.topics import create_topics

pytestmark = pytest.mark.kafka


def test_a_simulation_is_in_a_real_topic_record_by_record(kafka, registry, namespace):
    create_topics({"bootstrap.servers": kafka}, namespace)
    with RecordProducer(kafka, registry, namespace) as client:
        truth = simulate(client, Simulation(events=5000))
        partitions = range(client.partitions())
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": namespace})
    ends = [
        consumer.get_watermark_offsets(TopicPartition(client.topic, partition), 60)[1]
        for partition in partitions
    ]
    consumer.close()
    assert sum(ends) == truth.acknowledged == 5000
    assert all(ends)


def test_a_callback_hears_offsets_of_a_real_topic(kafka, registry, namespace):
    create_topics({"bootstrap.servers": kafka}, namespace)
    heard = []
    with Client(kafka, registry, namespace, on_outcome=heard.append) as client:
        for _ in range(3):
            client.track("search", user_id="ann")
    assert [(one.status, one.offset) for one in heard] == [("delivered", n) for n in range(3)]


def test_a_topic_that_comes_later_is_waited_for(kafka, registry, namespace):
    told = []
    settings = {"bootstrap.servers": kafka, "allow.auto.create.topics": False}
    with Client(settings, registry, namespace, on_outcome=told.append, timeout_s=2) as client:
        client.track("search", user_id="ann")
        assert client.flush(3) == 1
        create_topics({"bootstrap.servers": kafka}, namespace)
        assert client.flush(120) == 0
    assert [one.status for one in told] == ["delivered"]


def test_a_topic_that_does_not_exist_is_an_error_that_says_so(kafka, registry, namespace):
    with (
        RecordProducer(kafka, registry, namespace, allow_auto_create_topics=False) as client,
        pytest.raises(SendRefused, match=f"there is no topic {namespace}"),
    ):
        client.partitions()


@pytest.fixture
def collector(kafka, registry_url, namespace, tmp_path):
    create_topics({"bootstrap.servers": kafka}, namespace)
    port = free_port()
    environment = {
        "STREAMGAUGE_KAFKA": kafka,
        "STREAMGAUGE_REGISTRY": registry_url,
        "STREAMGAUGE_NAMESPACE": namespace,
        "STREAMGAUGE_DIR": str(tmp_path / "state"),
    }
    command = [sys.executable, "-m", "streamgauge.cli", "collect", "--port", str(port)]
    running = subprocess.Popen(command, env={**os.environ, **environment})
    deadline = time.monotonic() + 120
    while not listens(port):
        assert running.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    running.terminate()
    assert running.wait(120) == 0


def test_client_and_collector_understand_each_other(collector, kafka, namespace):
    told = []
    with Client(endpoint=collector, write_key="any", on_outcome=told.append) as client:
        ids = [client.track("page_view", user_id=f"u{n}", page_url="/ü" * 20) for n in range(250)]
        client.custom("signup", "ann", {"plan": "pro", "seats": 3})
    assert [one.event_id for one in told][:250] == ids
    assert {one.status for one in told} == {"delivered"}
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": namespace})
    ends = [
        consumer.get_watermark_offsets(TopicPartition(f"{namespace}.events", number), 60)[1]
        for number in range(4)
    ]
    consumer.close()
    assert sum(ends) == 251


def test_what_a_topic_is_too_small_for_is_told_and_stops_nothing_else(
    kafka, registry, namespace, tmp_path
):
    # Kafka refuses a batch as a whole: the small events lie there with a large one, in the spool.
    small = {"message.timestamp.type": "LogAppendTime", "max.message.bytes": "20000"}
    admin = AdminClient({"bootstrap.servers": kafka})
    (made,) = admin.create_topics([NewTopic(f"{namespace}.events", 4, 1, config=small)]).values()
    made.result(60)
    told = []
    spool = {"spool_dir": tmp_path / "spool", "on_outcome": told.append}
    with Client("127.0.0.1:1", registry, namespace, timeout_s=0.5, **spool) as away:
        for number in range(200):
            size = 30_000 if number == 77 else 200
            away.track("search", f"u{number % 3}", event_id=f"e{number}", query=token_hex(size))
    assert [one.status for one in told] == ["spooled"] * 200
    told.clear()
    with Client(kafka, registry, namespace, **spool) as client:
        assert client.flush(120) == 0
    assert {(one.event_id, one.reason) for one in told if one.status == "dropped"} == {
        ("e77", "too_large")
    }
    assert sum(one.status == "delivered" for one in told) == 199
    assert list((tmp_path / "spool").iterdir()) == []
