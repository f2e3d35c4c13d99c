"""The app and the events of both jobs on Quix Streams, exactly once.

Settings by environment: GROUP, SOURCE, OUT, KAFKA, STATE, SCHEMA.
"""

import io
import json
import os
from pathlib import Path

import fastavro
from quixstreams import Application
from quixstreams.models import Deserializer


def _schema() -> dict:
    schema = json.loads(Path(os.environ["SCHEMA"]).read_text())
    for field in schema["fields"]:
        if field["name"] == "ts":
            field["type"] = "long"  # no datetime objects
    return fastavro.parse_schema(schema)


class Events(Deserializer):
    schema = _schema()
    first = True

    def __call__(self, value, ctx):
        if Events.first:
            Events.first = False
            print("FIRST", flush=True)
        return fastavro.schemaless_reader(io.BytesIO(value[5:]), self.schema)


app = Application(
    broker_address=os.environ["KAFKA"],
    consumer_group=os.environ["GROUP"],
    processing_guarantee="exactly-once",
    commit_interval=1.0,
    auto_offset_reset="earliest",
    state_dir=os.environ["STATE"],
    loglevel="WARNING",
    producer_extra_config={"compression.type": "lz4"},
)
source = app.topic(
    os.environ["SOURCE"],
    key_deserializer="bytes",
    value_deserializer=Events(),
    timestamp_extractor=lambda value, headers, time, kind: value["ts"],
)
