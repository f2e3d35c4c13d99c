"""The registry of topics, and their creation on a mock and on a real broker."""

from __future__ import annotations

import time

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from streamgauge.schemas.avro import RECORDS
from streamgauge.schemas.errors import TopicError
from streamgauge.schemas.topics import TOPICS, config, create_topics, qualified


def create(broker: str, namespace: str, partitions: int | None = None) -> dict[str, int]:
    return create_topics({"bootstrap.servers": broker, "log_level": 0}, namespace, partitions)


def test_names_take_the_namespace_in_front() -> None:
    assert qualified("", "metrics") == "metrics"
    assert qualified("ns", "metrics") == "ns.metrics"


def test_every_topics_records_have_a_schema() -> None:
    named = {record for topic in TOPICS.values() for record in topic.records} - {"Event"}
    assert named == RECORDS.keys()


@pytest.mark.parametrize("topic", TOPICS.values(), ids=lambda topic: topic.name)
def test_every_topic_is_stamped_by_the_broker_and_says_how_long_it_keeps(topic) -> None:  # type: ignore[no-untyped-def]
    settings = config(topic)
    assert settings["message.timestamp.type"] == "LogAppendTime"
    assert settings["cleanup.policy"] == topic.cleanup
    assert (settings["retention.ms"] == "-1") == (topic.cleanup == "compact")
    assert ("segment.bytes" in settings) == topic.compacted


def test_on_the_embedded_broker_topics_come_into_being_with_its_partitions(
    broker: str,
) -> None:
    conf = {"bootstrap.servers": broker, "log_level": 0}
    expected = {f"ns.{name}": 4 for name in TOPICS}
    assert create_topics(conf, "ns", partitions=2, embedded=True) == expected


def test_a_broker_that_is_not_there_is_named() -> None:
    with pytest.raises(TopicError, match=r"127\.0\.0\.1:1"):
        create_topics({"bootstrap.servers": "127.0.0.1:1", "log_level": 0}, "ns", timeout=0.5)


def there(kafka: str, topic: NewTopic) -> None:
    """Creates a topic and waits until the broker lists it, which is not at once."""
    admin = AdminClient({"bootstrap.servers": kafka})
    admin.create_topics([topic])[topic.topic].result()
    deadline = time.monotonic() + 60
    while topic.topic not in admin.list_topics(timeout=60).topics:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.kafka
class TestRealKafka:
    def test_missing_topics_are_created_and_existing_ones_left(
        self, kafka: str, namespace: str
    ) -> None:
        there(kafka, NewTopic(f"{namespace}.events", 2, 1, config=config(TOPICS["events"])))
        expected = {f"{namespace}.{name}": 2 for name in TOPICS}
        assert create(kafka, namespace) == expected
        assert create(kafka, namespace) == expected

    def test_topics_have_the_settings_of_the_registry(self, kafka: str, namespace: str) -> None:
        create(kafka, namespace)
        admin = AdminClient({"bootstrap.servers": kafka})
        for topic in TOPICS.values():
            resource = ConfigResource(ConfigResource.Type.TOPIC, f"{namespace}.{topic.name}")
            (future,) = admin.describe_configs([resource]).values()
            found = future.result()
            settings = {name: found[name].value for name in config(topic)}
            assert settings == config(topic)

    def test_unequal_numbers_of_partitions_are_refused(self, kafka: str, namespace: str) -> None:
        create(kafka, namespace, 1)
        with pytest.raises(TopicError, match=f"same number .*{namespace}.events has 1"):
            create(kafka, namespace, 3)

    def test_a_topic_with_the_producers_time_is_refused(self, kafka: str, namespace: str) -> None:
        stamped = {"message.timestamp.type": "CreateTime"}
        there(kafka, NewTopic(f"{namespace}.events", 4, 1, config=stamped))
        with pytest.raises(TopicError, match=r"CreateTime; set it to LogAppendTime"):
            create(kafka, namespace)

    def test_more_replicas_than_brokers_are_refused_by_the_broker(
        self, kafka: str, namespace: str
    ) -> None:
        with pytest.raises(TopicError, match="replication"):
            create_topics({"bootstrap.servers": kafka}, namespace, replication=9)
