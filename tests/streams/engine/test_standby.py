"""Whoever follows the work of others takes what is between two transactions, never half of one."""

import time

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from streamgauge.streams.engine.restore import Restorer

pytestmark = pytest.mark.kafka


def test_rows_of_a_transaction_under_way_are_not_taken_for_those_of_the_commit_before(
    kafka, namespace
):
    # changelog   a | marker | b (open) ──> aborted | marker | b | marker
    # offsets     5 | 5      | nothing is taken       5      |     9
    source, log = (f"{namespace}.source", 0), (f"{namespace}.log", 0)
    conf = {"bootstrap.servers": kafka}
    admin = AdminClient(conf)
    for future in admin.create_topics([NewTopic(source[0], 1), NewTopic(log[0], 1)]).values():
        future.result()
    consumer = Consumer({**conf, "group.id": f"{namespace}.g", "isolation.level": "read_committed"})
    producer = Producer({**conf, "transactional.id": f"{namespace}.t"})
    producer.init_transactions(30)

    def write(row, offset):
        producer.begin_transaction()
        producer.produce(log[0], row, partition=0)
        producer.flush()
        group = consumer.consumer_group_metadata()
        producer.send_offsets_to_transaction([TopicPartition(*source, offset)], group, 30)

    def taken():
        commits, ends = restorer.at_rest(consumer, {source: [log]})
        return {place: commit.offset for place, commit in commits.items()}, ends

    def comes(expected):  # the broker writes a transaction's markers after it has answered
        deadline = time.monotonic() + 60
        while (found := taken()) != expected:
            assert found == ({}, {}) and time.monotonic() < deadline, found
            time.sleep(0.02)

    restorer = Restorer(conf)
    assert taken() == ({}, {})
    write(b"a", 5)
    producer.commit_transaction(30)
    comes(({source: 5}, {log: 2}))
    producer.begin_transaction()
    producer.produce(log[0], b"b", partition=0)
    producer.flush()
    assert taken() == ({}, {})
    producer.abort_transaction(30)
    comes(({source: 5}, {log: 4}))
    write(b"b", 9)
    producer.commit_transaction(30)
    comes(({source: 9}, {log: 6}))
    consumer.close()
