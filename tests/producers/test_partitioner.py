import uuid

from confluent_kafka import Producer

from streamgauge.producers.partitioner import PARTITIONER, partition_of


def test_a_key_goes_where_librdkafka_sends_it(broker):
    topic = f"keys-{uuid.uuid4().hex}"
    keys = [("user-" + "é" * (n % 3) + "0" * (n % 9) + str(n)).encode() for n in range(200)]
    where = {}
    producer = Producer({"bootstrap.servers": broker, "partitioner": PARTITIONER})
    for key in keys:
        producer.produce(
            topic,
            b"",
            key,
            on_delivery=lambda _, sent: where.update({sent.key(): sent.partition()}),
        )
    assert producer.flush(10) == 0

    assert where == {key: partition_of(key, 4) for key in keys}
    assert set(where.values()) == {0, 1, 2, 3}
