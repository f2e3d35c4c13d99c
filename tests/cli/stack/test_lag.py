"""Lag from the broker alone, on the embedded broker and on a real one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from streamgauge.cli.stack.embedded import EmbeddedKafka
from streamgauge.cli.stack.lag import Broker, Position


@pytest.fixture(params=["embedded", pytest.param("real", marks=pytest.mark.kafka)])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "real":
        yield request.getfixturevalue("kafka")
    else:
        with EmbeddedKafka(tmp_path) as broker:
            yield broker.bootstrap


def test_lag_is_the_end_less_what_is_committed(address: str, namespace: str) -> None:
    topic, group = f"{namespace}.events", f"{namespace}.streamgauge-worker"
    producer = Producer({"bootstrap.servers": address})
    for number in range(9):
        producer.produce(topic, b"event", partition=number % 4)
    producer.flush(60)
    reader = Consumer({"bootstrap.servers": address, "group.id": group})
    reader.commit(offsets=[TopicPartition(topic, 0, 1, metadata="R=1")], asynchronous=False)
    reader.close()

    broker = Broker(address)
    assert broker.topics()[topic] == [0, 1, 2, 3]
    assert broker.ends([topic]) == {(topic, 0): 3, (topic, 1): 2, (topic, 2): 2, (topic, 3): 2}
    assert set(broker.ends([topic], earliest=True).values()) == {0}
    first, second, *_ = broker.positions(namespace, "worker")
    assert first == Position(
        group=group, topic=topic, partition=0, committed=1, end=3, metadata="R=1"
    )
    assert (first.lag, second.committed, second.lag) == (2, None, 2)
    assert broker.positions("t-other", "worker") == []
