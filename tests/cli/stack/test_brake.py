"""The brake: on while a reader is too far behind, by the bytes of what was sent."""

import json
import threading
import time
from collections.abc import Callable

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from streamgauge.cli.stack import brake as module
from streamgauge.cli.stack.brake import Brake


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_it_is_on_until_the_reader_has_caught_up(embedded: str, namespace: str) -> None:
    topic = f"{namespace}.events"
    with Brake(embedded, namespace, ["worker"]) as brake:
        producer = Producer(brake.conf)
        for _ in range(100):
            producer.produce(topic, bytes(30_000), partition=1)
        producer.flush(60)
        until(lambda: producer.poll(0.05) is not None and brake.on)
        waiting = threading.Thread(target=brake.wait)
        waiting.start()
        group = f"{namespace}.streamgauge-worker"
        reader = Consumer({"bootstrap.servers": embedded, "group.id": group})
        reader.commit(offsets=[TopicPartition(topic, 1, 90)], asynchronous=False)
        reader.close()
        until(lambda: not brake.on)
        waiting.join(60)
        assert not waiting.is_alive()


def test_small_records_may_be_many_and_large_ones_few(
    embedded: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "UNREAD_BYTES", 10_000)
    producer = Producer({"bootstrap.servers": embedded})
    for _ in range(50):
        producer.produce(f"{namespace}.events", b"event", partition=0)
    producer.flush(60)
    brake = Brake(embedded, namespace, ["worker"])
    for size, on in ((100, False), (1_000, True)):
        brake.conf["stats_cb"](json.dumps({"txmsgs": 50, "txmsg_bytes": 50 * size}))
        assert brake.look() is on


def test_it_is_on_while_the_broker_does_not_answer_and_gives_way_to_a_stop(
    embedded: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable() -> bool:
        raise KafkaException("gone")

    with Brake(embedded, namespace, ["worker"]) as brake:
        monkeypatch.setattr(brake, "look", unreachable)
        until(lambda: brake.on)
        stop = threading.Event()
        stop.set()
        brake.wait(stop)
