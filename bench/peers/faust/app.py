"""B1 on plain Faust: an agent re-keys, a second one folds into a table. At least once.

Settings by environment: GROUP, SOURCE, OUT, KAFKA, STATE, SCHEMA.
"""

import io
import json
import os
import sys

import fastavro
import faust

GROUP, PARTITIONS = os.environ["GROUP"], 4
SCHEMA = fastavro.parse_schema(json.loads(open(os.environ["SCHEMA"]).read()))  # noqa: PTH123, SIM115
COLUMNS = ("event_type", "page", "ts", "duration_ms")


class AvroCodec(faust.Codec):
    first = True

    def _loads(self, data):
        if AvroCodec.first:
            AvroCodec.first = False
            print("FIRST", file=sys.__stdout__, flush=True)  # stdout is the log by now
        event = fastavro.schemaless_reader(io.BytesIO(data[5:]), SCHEMA)
        return {name: event[name] for name in COLUMNS}


faust.serializers.codecs.register("event", AvroCodec())

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
by_key = app.topic(
    f"{GROUP}-repartition",
    key_serializer="raw",
    value_serializer="json",
    partitions=PARTITIONS,
    internal=True,
)
out = app.topic(os.environ["OUT"], key_serializer="raw", value_serializer="json")
rollup = app.Table("rollup", default=lambda: [0, 0, 0], partitions=PARTITIONS)


@app.agent(events)
async def rekey(stream):
    async for event in stream:
        minute = int(event["ts"].timestamp() * 1000) // 60_000 * 60_000
        key = f"{minute}|{event['event_type']}|{event['page']}"
        await by_key.send(key=key.encode(), value=[key, event["duration_ms"] or 0])


@app.agent(by_key)
async def fold(stream):
    async for key, duration in stream:
        count, total, most = rollup[key]
        row = [count + 1, total + duration, max(most, duration)]
        rollup[key] = row
        await out.send(key=key.encode(), value=dict(zip(("count", "sum", "max"), row, strict=True)))


if __name__ == "__main__":
    app.main()
