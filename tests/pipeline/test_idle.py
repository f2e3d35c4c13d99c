"""Time passes in the log itself: an idle topic's windows become final."""

import json
import os
import subprocess
import sys
import time

import pytest
from confluent_kafka import Consumer

from streamgauge.producers import Client
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.registry import open_registry
from streamgauge.schemas.topics import create_topics

pytestmark = pytest.mark.kafka


def test_a_window_becomes_final_although_nothing_follows(kafka, namespace, registry_url, tmp_path):
    # events   |a···············|tick·tick·tick···        lateness 0
    # window   [──── 1 m ────)  ^ watermark ≥ its end: final
    create_topics({"bootstrap.servers": kafka}, namespace)
    minute = int(time.time() * 1000) // 60_000 * 60_000 - 60_000
    with Client(kafka=kafka, registry=registry_url, namespace=namespace) as client:
        client.track("page_view", user_id="a", page_url="/", timestamp=minute + 59_000)
    environment = {
        "STREAMGAUGE_KAFKA": kafka,
        "STREAMGAUGE_REGISTRY": registry_url,
        "STREAMGAUGE_NAMESPACE": namespace,
        "STREAMGAUGE_LATENESS_MS": "0",
        "STREAMGAUGE_DIR": str(tmp_path),
    }
    worker = subprocess.Popen(
        [sys.executable, "-m", "streamgauge.cli", "worker", "--tick-after", "1"],
        env={**os.environ, **environment},
    )
    try:
        assert final_views(kafka, namespace, registry_url, minute) == 1.0
    finally:
        worker.terminate()
        assert worker.wait(60) == 0


def final_views(kafka, namespace, registry_url, minute):
    consumer = Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": f"{namespace}-reader",
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
        }
    )
    consumer.subscribe([f"{namespace}.metrics"])
    codec, deadline = Codec(open_registry(registry_url)), time.monotonic() + 180
    try:
        while time.monotonic() < deadline:
            for message in consumer.consume(100, 0.5):
                if message.error():
                    continue
                row = codec.decode(message.value()).record
                views = dict(zip(row["metrics"], row["values"], strict=True)).get("page_views")
                total = json.loads(row["dimensions"]) == {}
                if views and total and row["window_size"] == "1m" and row["is_final"]:
                    assert row["window_start"] == minute
                    return views
    finally:
        consumer.close()
    return None
