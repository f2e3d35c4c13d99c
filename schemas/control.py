"""Definitions that change while the worker runs: rules of segments, experiments.

    CLI ── one transaction ─┬─> topic `control`: the latest of each kind and name, for readers
                            └─> a marker in each partition of `events`: it takes effect there

Upstream: the CLI. Downstream: the branches of the worker, and `verify`. Since the marker lies in
the log itself, a replay changes definitions where they changed at first. A marker is a tick
without a time of its own.

Invariants: a control's version is counted up by who publishes it; its body is JSON, checked there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from streamgauge.schemas.codec import Codec
from streamgauge.schemas.errors import TopicError
from streamgauge.schemas.records import MARKER_TIME, Control, Tick
from streamgauge.schemas.topics import CONTROL, EVENTS, qualified


def key(control: Control) -> bytes:
    """Of its record."""
    return f"{control.kind}/{control.name}".encode()


def text(control: Control) -> str:
    """As a marker carries it."""
    return json.dumps(asdict(control), ensure_ascii=False, separators=(",", ":"))


def of_text(marked: str) -> Control:
    """What `text` gave."""
    return Control(**json.loads(marked))


def publish(
    kafka: Mapping[str, Any],
    namespace: str,
    codec: Codec,
    control: Control,
    *,
    transactional: bool = True,
    timeout: float = 30.0,
) -> None:
    """Write it, with its markers, all or nothing (`transactional`: not on the embedded broker)."""
    events, topic = qualified(namespace, EVENTS.name), qualified(namespace, CONTROL.name)
    conf: dict[str, Any] = {**kafka, "partitioner": "murmur2_random", "enable.idempotence": True}
    if transactional:
        conf["transactional.id"] = f"{topic}-{control.kind}-{control.name}"
    try:
        partitions = AdminClient(dict(kafka)).list_topics(events, timeout).topics[events].partitions
        producer = Producer(conf)
        if transactional:
            producer.init_transactions(timeout)
            producer.begin_transaction()
        producer.produce(topic, codec.encode(CONTROL.name, control), key(control))
        marker = codec.encode(EVENTS.name, Tick(timestamp=MARKER_TIME, control=text(control)))
        for partition in partitions:
            producer.produce(events, marker, partition=partition)
        if transactional:
            producer.commit_transaction(timeout)
        elif producer.flush(timeout):
            raise TopicError(f"{control.kind}/{control.name} was not written within {timeout:g} s")
    except KafkaException as error:
        raise TopicError(f"{control.kind}/{control.name} could not be written: {error}") from error


def latest(
    kafka: Mapping[str, Any], namespace: str, codec: Codec, kind: str, timeout: float = 30.0
) -> dict[str, Control]:
    """The newest control of each name of a kind, those that have ended among them."""
    topic = qualified(namespace, CONTROL.name)
    consumer = Consumer(
        {
            **kafka,
            "group.id": f"{topic}-readers",  # never committed
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "enable.partition.eof": False,
        }
    )
    found: dict[str, Control] = {}
    try:
        partitions = consumer.list_topics(topic, timeout).topics[topic].partitions
        places = [TopicPartition(topic, partition, 0) for partition in partitions]
        deadline = time.monotonic() + timeout
        ends = {place.partition: _end(consumer, place, deadline) for place in places}
        places = [place for place in places if ends[place.partition]]
        consumer.assign(places)
        while any(at.offset < ends[at.partition] for at in consumer.position(places)):
            if time.monotonic() > deadline:
                raise TopicError(f"{topic} could not be read within {timeout:g} s")
            for message in consumer.consume(1_000, 0.2):
                value = message.value()
                if message.error() is None and value is not None:
                    control = Control(**codec.decode(value).record)
                    if control.kind == kind:
                        found[control.name] = control
    except KafkaException as error:
        raise TopicError(f"{topic} could not be read: {error}") from error
    finally:
        consumer.close()
    return found


_PASSING = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE)
"""While a topic is being created."""


def _end(consumer: Consumer, place: TopicPartition, deadline: float) -> int:
    while True:
        left = max(deadline - time.monotonic(), 0.1)
        try:
            return int(consumer.get_watermark_offsets(place, left)[1])
        except KafkaException as error:
            if error.args[0].code() not in _PASSING or time.monotonic() > deadline:
                raise
            time.sleep(0.1)
