"""The whole way from a real Kafka to somebody's address."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer

from streamgauge.schemas import control
from streamgauge.schemas.anomaly_records import Anomaly
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.experiment_records import ExperimentResult
from streamgauge.schemas.experiments import Experiment, load_experiment
from streamgauge.schemas.topics import create_topics, qualified
from streamgauge.sinks.runner import SinkConfig, run
from streamgauge.sinks.webhook import ended
from streamgauge.sinks.webhook.sink import Offsets

pytestmark = pytest.mark.kafka

NOON = 1_767_268_800_000
DEFINITION = """
name: buttons
variants: [{name: control}, {name: green}]
metrics:
  - {name: clicks, role: primary, aggregate: mean, events: [button_click]}
"""


class Feed:
    """Writes what workers write, in transactions."""

    def __init__(self, kafka: str, namespace: str, codec: Codec) -> None:
        self._namespace, self._codec = namespace, codec
        self._producer = Producer({"bootstrap.servers": kafka, "transactional.id": namespace})
        self._producer.init_transactions(60)

    def send(self, *records: tuple[str, str, Any]) -> None:
        self._producer.begin_transaction()
        for topic, key, record in records:
            value = self._codec.encode(topic, record)
            self._producer.produce(qualified(self._namespace, topic), value, key, partition=0)
            self._producer.flush(60)
            time.sleep(0.01)  # each is appended at a time of its own
        self._producer.commit_transaction(60)

    def word(self, name: str, version: int = 1, **fields: Any) -> tuple[str, str, Any]:
        word = {
            **dict.fromkeys(("metric", "dimensions", "ended_at", "expected")),
            "anomaly_id": name,
            "series": "user u",
            "user_id": "u",
            "detector": "bot",
            "severity": "red",
            "started_at": NOON,
            "observed": 9.0,
            "score": 1.5,
            "points": 3,
            "version": version,
            "is_final": version > 1,
        }
        return "anomalies", name, Anomaly(**(word | fields))

    def ending(self) -> list[tuple[str, str, Any]]:
        one = Experiment(definition=load_experiment(DEFINITION), state="running", started_at=NOON)
        stopped = one.stopped(NOON + 1, "enough").control()
        row: dict[str, Any] = dict.fromkeys(ExperimentResult.__slots__)
        row |= {"experiment": "buttons", "metric": "clicks", "as_of": NOON, "state": "stopped"}
        row |= {"role": "primary", "analysis": "{}"}
        return [
            *(
                (
                    "experiment-results",
                    f"buttons|clicks|{variant}",
                    ExperimentResult(**(row | {"variant": variant, "is_control": is_control})),
                )
                for variant, is_control in (("green", False), ("control", True))
            ),
            ("control", control.key(stopped).decode(), stopped),
        ]


@pytest.fixture
def start(
    kafka: str, namespace: str, registry_url: str, receiver: Any, tmp_path: Path
) -> Iterator[Callable[[], Callable[[], int]]]:
    file = tmp_path / "alerts.yaml"
    file.write_text(
        "webhooks:\n"
        f"  - {{name: ops, url: '{receiver.url}', secret_env: OPS_SECRET}}\n"
        "  - {name: gone, url: 'http://127.0.0.1:9/'}\n"
        f"  - {{name: growth, url: '{receiver.url}', experiments: true}}\n"
        "policies:\n"
        "  - {detector: bot, webhook: ops}\n"
        "  - {detector: bot, webhook: gone}\n"
    )
    config = SinkConfig(
        kind="webhook",
        kafka={"bootstrap.servers": kafka, "session.timeout.ms": 6000},
        registry=registry_url,
        target=str(file),
        namespace=namespace,
        interval=0.05,
    )
    running: list[tuple[threading.Event, threading.Thread]] = []

    def begin() -> Callable[[], int]:
        stop, codes = threading.Event(), list[int]()
        thread = threading.Thread(target=lambda: codes.append(run(config, stop)))
        thread.start()
        running.append((stop, thread))

        def end() -> int:
            stop.set()
            thread.join(120)
            return codes[0]

        return end

    yield begin
    for stop, thread in running:
        stop.set()
        thread.join(120)


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def letters(kafka: str, namespace: str, codec: Codec) -> list[dict[str, Any]]:
    earliest = {"auto.offset.reset": "earliest"}
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": f"{namespace}-x", **earliest})
    consumer.subscribe([qualified(namespace, "dead-letters")])
    found: list[Any] = []

    def read() -> bool:
        found.extend(consumer.consume(1, 0.5))
        return bool(found)

    until(read)
    consumer.close()
    return [codec.decode(message.value()).record for message in found]


def test_webhooks_are_told_whatever_becomes_of_each_other(
    kafka: str,
    namespace: str,
    registry: Any,
    receiver: Any,
    start: Callable[[], Callable[[], int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPS_SECRET", "s3cret")
    monkeypatch.setattr(ended, "SETTLE_MS", 100)
    create_topics({"bootstrap.servers": kafka}, namespace)
    codec = Codec(registry)
    feed = Feed(kafka, namespace, codec)

    # In one transaction: two words about a flag, one that is refused, and an experiment's end.
    receiver.answers = [503, 410]
    feed.send(feed.word("a"), feed.word("a", 2), feed.word("b"))
    end = start()
    until(lambda: {"a-2", "b-1"} <= set(receiver.told()))
    feed.send(*feed.ending())
    until(lambda: "buttons-1" in receiver.told())
    assert receiver.told() == ["a-1", "a-1", "a-2", "b-1", "buttons-1"]
    completed = receiver.documents()[-1]
    assert completed["event"] == "experiment_completed"
    assert [row["variant"] for row in completed["results"]] == ["control", "green"]
    signed = [h["Idempotency-Key"] for h, _ in receiver.got if "Streamgauge-Signature" in h]
    assert signed == ["a-1", "a-1", "a-2", "b-1"]

    (letter,) = letters(kafka, namespace, codec)
    assert (letter["topic"], letter["reason"]) == ("webhook:ops/anomalies", "webhook_refused")
    assert letter["detail"] == "anomaly_opened a-1: 410 not so"
    assert json.loads(letter["payload"])["anomaly_id"] == "a"

    # Another process goes on behind what was delivered.
    group = qualified(namespace, "streamgauge-sink-webhook-ops")
    committed = Offsets({"bootstrap.servers": kafka, "group.id": group}, namespace)
    until(lambda: (committed([("anomalies", 0)])["anomalies", 0] or 0) >= 3)
    assert end() == 0
    end = start()
    feed.send(feed.word("c"))
    until(lambda: "c-1" in receiver.told())
    assert [told for told in receiver.told()[5:] if told != "buttons-1"] == ["c-1"]
    assert end() == 0


def test_what_is_missing_is_told_at_once(
    start: Callable[[], Callable[[], int]], caplog: pytest.LogCaptureFixture
) -> None:
    assert start()() == 1
    assert "to be in the variable OPS_SECRET, which is not set" in caplog.text
