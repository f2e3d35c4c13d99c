"""A harness around counting_app.py: topics, records, workers, and what a reader sees."""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

APP = Path(__file__).with_name("counting_app.py")
PARTITIONS = 4


class Counting:
    """One namespace with the topics numbers, forwarded and counts."""

    def __init__(self, kafka: str, namespace: str, logs: Path) -> None:
        self.kafka, self.namespace, self.logs = kafka, namespace, logs
        self.workers: list[subprocess.Popen] = []
        self.produced: Counter[str] = Counter()
        admin = AdminClient({"bootstrap.servers": kafka})
        topics = [
            NewTopic(self.topic("numbers"), PARTITIONS, 1),
            NewTopic(self.topic("forwarded"), PARTITIONS, 1),
            NewTopic(self.topic("dead"), PARTITIONS, 1),
            NewTopic(self.topic("counts"), PARTITIONS, 1, config={"cleanup.policy": "compact"}),
        ]
        for future in admin.create_topics(topics).values():
            future.result()

    def topic(self, name: str) -> str:
        return f"{self.namespace}.{name}"

    def produce(self, count: int, *, n: int = 1, raw: bytes | None = None) -> None:
        producer = Producer({"bootstrap.servers": self.kafka})
        for i in range(count):
            key = f"k{i % 97}"
            if raw is None:
                self.produced[key] += n
            value = raw or json.dumps({"key": key, "n": n}).encode()
            producer.produce(self.topic("numbers"), value, key)
            producer.poll(0)
        producer.flush()

    def start(self, worker_id: str = "w0", *flags: str, **environment: str) -> subprocess.Popen:
        log = (self.logs / f"{worker_id}.log").open("a")
        worker = subprocess.Popen(
            [sys.executable, APP, self.kafka, self.namespace, worker_id, *flags],
            env={**os.environ, **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        self.workers.append(worker)
        return worker

    def run(self, *flags: str, worker_id: str = "w0", **environment: str) -> int:
        """Run a worker until it ends by itself."""
        return self.start(worker_id, "until-end", *flags, **environment).wait(90)

    def log(self, worker_id: str = "w0") -> str:
        return (self.logs / f"{worker_id}.log").read_text()

    def read(self, topic: str) -> list[tuple[int, bytes, bytes]]:
        """What a read_committed reader sees, by partition in order."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.kafka,
                "group.id": "reader",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
            }
        )
        consumer.assign([TopicPartition(self.topic(topic), p, 0) for p in range(PARTITIONS)])
        rows, ended = [], 0
        while ended < PARTITIONS:
            for message in consumer.consume(5000, 1):
                if message.error():
                    ended += 1
                else:
                    rows.append((message.partition(), message.key(), message.value()))
        consumer.close()
        return rows

    def wait_for(self, rows: int, timeout: float = 60) -> None:
        deadline = time.monotonic() + timeout
        while len(self.read("forwarded")) < rows:
            assert time.monotonic() < deadline, self.log()[-4000:]
            time.sleep(0.5)

    def assert_exact(self, records: int) -> None:
        """Every record forwarded once and in order, every count the oracle's."""
        forwarded = [value.decode() for _, _, value in self.read("forwarded")]
        assert len(forwarded) == records
        assert len(set(forwarded)) == records
        for partition in range(PARTITIONS):
            offsets = [int(v.split("/")[1]) for v in forwarded if v.startswith(f"{partition}/")]
            assert offsets == sorted(offsets)
        last = {(p, key.decode()): int(value) for p, key, value in self.read("counts")}
        counts: Counter[str] = Counter()
        for (_, key), n in last.items():
            counts[key] += n
        assert counts == self.produced


@pytest.fixture
def counting(kafka, namespace, tmp_path):
    harness = Counting(kafka, namespace, tmp_path)
    yield harness
    for worker in harness.workers:
        if worker.poll() is None:
            worker.kill()
            worker.wait()
