"""The app, the events and the output of both jobs on plain Faust. At least once.

Settings by environment: GROUP, SOURCE, OUT, KAFKA, STATE, SCHEMA.
"""

import io
import json
import os
import sys
from pathlib import Path

import fastavro
import faust

GROUP, PARTITIONS = os.environ["GROUP"], 4


def _schema() -> dict:
    schema = json.loads(Path(os.environ["SCHEMA"]).read_text())
    for field in schema["fields"]:
        if field["name"] == "ts":
            field["type"] = "long"  # as our own: no datetime objects
    return fastavro.parse_schema(schema)


class Events(faust.Codec):
    schema = _schema()
    first = True

    def _loads(self, data):
        if Events.first:
            Events.first = False
            print("FIRST", file=sys.__stdout__, flush=True)  # stdout is the log by now
        return fastavro.schemaless_reader(io.BytesIO(data[5:]), self.schema)


faust.serializers.codecs.register("event", Events())

app = faust.App(
    GROUP,
    broker=f"kafka://{os.environ['KAFKA']}",
    store="memory://",
    topic_partitions=PARTITIONS,
    broker_commit_interval=1.0,
    consumer_auto_offset_reset="earliest",
    datadir=os.environ["STATE"],
    web_enabled=False,
    stream_wait_empty=False,
    producer_compression_type="lz4",
    producer_linger=0.05,
    producer_max_batch_size=1 << 19,
    topic_disable_leader=True,
)
events = app.topic(os.environ["SOURCE"], key_serializer="raw", value_serializer="event")
out = app.topic(os.environ["OUT"], key_serializer="raw", value_serializer="json")
