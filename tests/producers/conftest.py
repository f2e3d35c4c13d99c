"""A reader of topics of the mock cluster."""

from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import (
    OFFSET_BEGINNING,
    Consumer,
    KafkaError,
    Message,
    TopicPartition,
)

from streamgauge.schemas.codec import Codec
from streamgauge.schemas.registry import Registry, open_registry

PARTITIONS = 4

Read = Callable[[str], list[Message]]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return open_registry(f"file:{tmp_path / 'registry'}")


@pytest.fixture
def codec(registry: Registry) -> Codec:
    return Codec(registry)


@pytest.fixture
def read(broker: str) -> Read:
    """All messages of a topic, in the order of their partitions."""

    def messages(topic: str) -> list[Message]:
        consumer = Consumer(
            {
                "bootstrap.servers": broker,
                "group.id": "unused",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "fetch.wait.max.ms": 10,
                "log_level": 0,
            }
        )
        consumer.assign(
            [TopicPartition(topic, number, OFFSET_BEGINNING) for number in range(PARTITIONS)]
        )
        found: list[Message] = []
        ended: set[int] = set()
        while len(ended) < PARTITIONS:
            for message in consumer.consume(1000, 0.2):
                if message.error() is None:
                    found.append(message)
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition())
        consumer.close()
        return sorted(found, key=lambda message: (message.partition(), message.offset()))

    return messages
