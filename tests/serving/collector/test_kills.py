"""Collectors killed and Kafka gone, on a real Kafka: whatever was answered ok is in the topic."""

import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from streamgauge.cli.stack.kafka import LocalKafka
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.ids import now_ms
from streamgauge.schemas.registry import open_registry
from streamgauge.schemas.topics import create_topics
from streamgauge.serving.collector.settings import CollectorConfig

from .conftest import Collectors, read

DEADLINE = 120.0
BATCH = 20


class Sender(threading.Thread):
    """Sends batches until stopped, each again until every event of it has been answered ok."""

    def __init__(self, url: str, name: str) -> None:
        super().__init__(daemon=True)
        self._url, self._prefix = url, name
        self.acknowledged: set[str] = set()
        self.retried = 0
        self.done = threading.Event()

    def run(self) -> None:
        numbers = itertools.count()
        with httpx.Client(timeout=30) as http:
            while not self.done.is_set():
                ids = [f"{self._prefix}-{next(numbers)}" for _ in range(BATCH)]
                while ids:
                    ids = self._left(http, ids)

    def _left(self, http: httpx.Client, ids: list[str]) -> list[str]:
        batch = [
            {"event_id": i, "event_type": "search", "user_id": i[-2:], "timestamp": now_ms()}
            for i in ids
        ]
        try:
            answer = http.post(f"{self._url}/v1/batch", json={"batch": batch, "sent_at": now_ms()})
        except httpx.TransportError:
            self.retried += 1
            time.sleep(0.05)
            return ids
        if answer.status_code != 200:
            self.retried += 1
            time.sleep(0.1)
            return ids
        results = answer.json()["results"]
        good = {result["id"] for result in results if result["status"] == "ok"}
        self.acknowledged |= good
        return [i for i in ids if i not in good]


@pytest.fixture
def collectors(
    kafka: str, namespace: str, registry_url: str, tmp_path: Path
) -> Iterator[Collectors]:
    create_topics({"bootstrap.servers": kafka}, namespace)
    running = Collectors(
        CollectorConfig(kafka=kafka, registry=registry_url, namespace=namespace), tmp_path
    )
    running.start()
    yield running
    running.end(signal.SIGKILL)


def missing(config: CollectorConfig, senders: list[Sender]) -> set[str]:
    codec = Codec(open_registry(config.registry))
    there = {codec.decode(value).record["event_id"] for value in read(config, "events")}
    return set().union(*(sender.acknowledged for sender in senders)) - there


def send(collectors: Collectors, count: int) -> list[Sender]:
    senders = [Sender(collectors.url, f"s{number}") for number in range(count)]
    for sender in senders:
        sender.start()
    return senders


def stop(senders: list[Sender]) -> None:
    for sender in senders:
        sender.done.set()
    for sender in senders:
        sender.join(DEADLINE)
        assert not sender.is_alive()


def test_whatever_was_answered_ok_before_a_kill_is_in_the_topic(collectors: Collectors) -> None:
    senders = send(collectors, 3)
    for turn in range(5 if os.environ.get("FAULTS") == "all" else 2):
        time.sleep(1.0)
        deadline = time.monotonic() + DEADLINE
        while any(len(sender.acknowledged) <= turn * BATCH for sender in senders):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        collectors.end(signal.SIGKILL)
        collectors.start()
    time.sleep(0.5)
    stop(senders)
    assert all(sender.retried for sender in senders)
    assert all(len(sender.acknowledged) > BATCH for sender in senders)
    assert missing(collectors.config, senders) == set()


def test_a_collector_told_to_stop_answers_what_it_has_taken(collectors: Collectors) -> None:
    senders = send(collectors, 3)
    time.sleep(1.0)
    assert collectors.end(signal.SIGTERM) == 0
    collectors.start()
    stop(senders)
    assert missing(collectors.config, senders) == set()


@pytest.mark.slow
@pytest.mark.skipif(os.environ.get("FAULTS") != "all", reason="set FAULTS=all to run it")
def test_kafka_bounced_and_collectors_killed_meanwhile_lose_nothing(
    server_dir: Path, registry_url: str, namespace: str, tmp_path: Path
) -> None:
    with LocalKafka(server_dir, heap="512m") as broker:
        create_topics({"bootstrap.servers": broker.bootstrap}, namespace)
        config = CollectorConfig(kafka=broker.bootstrap, registry=registry_url, namespace=namespace)
        collectors = Collectors(config, tmp_path)
        collectors.start()
        senders = send(collectors, 3)
        for turn in range(3):
            time.sleep(2.0)
            broker.kill()
            time.sleep(5.0)
            if turn:
                collectors.end(signal.SIGKILL)
                collectors.start()
            time.sleep(2.0)
            broker.start()
        time.sleep(2.0)
        stop(senders)
        deadline = time.monotonic() + DEADLINE
        while collectors.waiting():
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert missing(config, senders) == set()
        collectors.end(signal.SIGKILL)
