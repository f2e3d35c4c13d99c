"""Ordinary Faust agents on the engine."""

import os
import signal
import subprocess
import sys
import time

import pytest
from confluent_kafka import Consumer, Producer

from streamgauge.streams.engine import App, Unsupported

PROGRAM = """
import os, sys
from streamgauge.streams.engine import App
broker, name = sys.argv[1:3]
app = App(name, broker=f"kafka://{broker}")
source = app.topic(f"{name}-in", value_type=bytes, value_serializer="raw")
target = app.topic(f"{name}-out", value_type=bytes, value_serializer="raw")
seen = 0

@app.agent(source)
async def double(stream):
    global seen
    async for value in stream:
        await target.send(value=value * 2)
        seen += 1
        if seen == 150 and os.environ.get("KILL"):
            os.kill(os.getpid(), 9)
        if seen == 150 and os.environ.get("RAISE"):
            raise ValueError("once")

sys.argv = [sys.argv[0], "worker", "-l", "info", "--without-web"]
app.main()
"""


def test_tables_are_refused_with_what_to_use_instead():
    with pytest.raises(Unsupported, match="Task"):
        App("x", broker="kafka://127.0.0.1:1").Table("counts")


@pytest.mark.kafka
def test_what_a_per_event_agent_sends_is_in_the_transaction(kafka, namespace, tmp_path):
    producer = Producer({"bootstrap.servers": kafka})
    program = tmp_path / "app.py"
    program.write_text(PROGRAM)

    def start(**environment):
        return subprocess.Popen(
            [sys.executable, program, kafka, namespace], env={**os.environ, **environment}
        )

    first = start(KILL="1")
    time.sleep(4)
    for i in range(300):
        producer.produce(f"{namespace}-in", str(i).encode())
    producer.flush()
    assert first.wait(120) == -signal.SIGKILL
    second = start(RAISE="1")
    consumer = Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": namespace + "-reader",
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
    )
    consumer.subscribe([f"{namespace}-out"])
    values, deadline = [], time.monotonic() + 180
    while len(values) < 300 and time.monotonic() < deadline:
        values += [m.value() for m in consumer.consume(500, 1) if not m.error()]
    values += [m.value() for m in consumer.consume(500, 3) if not m.error()]
    consumer.close()
    second.terminate()
    assert second.wait(60) == 0
    assert sorted(values) == sorted(str(i).encode() * 2 for i in range(300))
