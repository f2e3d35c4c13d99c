"""What the topic `metrics` says now: the latest row of each key, one line each.

python metrics.py BOOTSTRAP REGISTRY TOPIC SCHEMA.avsc
"""

import io
import json
import sys
import urllib.request
from pathlib import Path

import fastavro
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition


def main(bootstrap, registry, topic, schema_file):
    ours = fastavro.parse_schema(json.loads(Path(schema_file).read_text()))
    theirs = {}  # schemas of writers, by id

    def decode(value):
        schema_id = int.from_bytes(value[1:5], "big")
        if schema_id not in theirs:
            with urllib.request.urlopen(f"{registry}/schemas/ids/{schema_id}") as answer:
                theirs[schema_id] = fastavro.parse_schema(json.loads(json.load(answer)["schema"]))
        return fastavro.schemaless_reader(io.BytesIO(value[5:]), theirs[schema_id], ours)

    rows = {}
    for key, value in records(bootstrap, topic):
        if value is None:
            rows.pop(key, None)
        else:
            rows[key] = decode(value)
    for key in sorted(rows):
        print(
            key,
            json.dumps(rows[key], default=lambda time: round(time.timestamp() * 1000)),
            sep="\t",
        )


def records(bootstrap, topic):
    """Every committed record, up to the end."""
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "metrics-reader",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
    unread = set(partitions)
    while unread:
        message = consumer.poll(30)
        if message is None:
            sys.exit(f"nothing from {bootstrap} for 30 s")
        if message.error() is None:
            yield message.key().decode(), message.value()
        elif message.error().code() == KafkaError._PARTITION_EOF:
            unread.discard(message.partition())
        else:
            sys.exit(message.error().str())
    consumer.close()


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(*sys.argv[1:])
