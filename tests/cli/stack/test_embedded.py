"""The embedded broker: what the demo relies on, and the limits it has to live with."""

from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition

from streamgauge.cli.stack.embedded import PARTITIONS, EmbeddedKafka


def test_topics_appear_on_first_use_and_group_offsets_are_kept(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path) as broker:
        producer = Producer({"bootstrap.servers": broker.bootstrap})
        for number in range(10):
            producer.produce("events", b"event", partition=number % PARTITIONS)
        assert producer.flush(60) == 0
        assert len(producer.list_topics("events", timeout=60).topics["events"].partitions) == 4
        reader = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "worker"})
        end = TopicPartition("events", 0, 3, metadata="note")
        reader.commit(offsets=[end], asynchronous=False)
        (found,) = reader.committed([TopicPartition("events", 0)], timeout=60)
        assert (found.offset, found.metadata) == (3, "note")
        reader.close()
    assert broker.pid is None


def test_what_is_beyond_its_limit_vanishes(tmp_path: Path) -> None:
    with EmbeddedKafka(tmp_path) as broker:
        producer = Producer({"bootstrap.servers": broker.bootstrap})
        for _ in range(10):
            producer.produce("events", bytes(900_000), partition=0)
            producer.flush(60)
        reader = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "worker"})
        low, high = reader.get_watermark_offsets(TopicPartition("events", 0), timeout=60)
        reader.close()
        assert (low > 0, high) == (True, 10)
