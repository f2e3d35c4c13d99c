"""A harness around counting_app.py: topics, records, workers, and what a reader sees.

Upstream: tests of the engine and of faults. Downstream: one namespace on a real Kafka.
"""

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from confluent_kafka import Consumer, IsolationLevel, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

APP = Path(__file__).with_name("counting_app.py")
PARTITIONS = 4
LONGEST_OPEN = 60.0
"""Seconds: the transaction timeout, the broker's clean-up interval, and some."""


class Counting:
    """One namespace with the topics numbers, forwarded, relayed and counts."""

    def __init__(
        self, kafka: str, namespace: str, logs: Path, *, program: Sequence[str | Path] = (APP,)
    ) -> None:
        self.kafka, self.namespace, self.logs = kafka, namespace, logs
        self.program = program
        self.brokers = kafka  # of the workers: another address where a proxy is in between
        self.workers: list[subprocess.Popen] = []
        self.produced: Counter[str] = Counter()
        admin = AdminClient({"bootstrap.servers": kafka})
        topics = [
            NewTopic(self.topic("numbers"), PARTITIONS, 1),
            NewTopic(self.topic("forwarded"), PARTITIONS, 1),
            NewTopic(self.topic("relayed"), PARTITIONS, 1),
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

    def intrude(self) -> Producer:
        """Somebody else's transaction, open with a row in each partition of the changelog."""
        intruder = Producer(
            {
                "bootstrap.servers": self.kafka,
                "transactional.id": self.namespace,
                "transaction.timeout.ms": 120_000,
            }
        )
        intruder.init_transactions()
        intruder.begin_transaction()
        for partition in range(PARTITIONS):
            intruder.produce(self.topic("counts"), b"0", b"of-nobody", partition)
        intruder.flush()
        return intruder

    def start(self, worker_id: str = "w0", *flags: str, **environment: str) -> subprocess.Popen:
        log = (self.logs / f"{worker_id}.log").open("a")
        worker = subprocess.Popen(
            [sys.executable, *self.program, self.brokers, self.namespace, worker_id, *flags],
            env={**os.environ, **environment},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        self.workers.append(worker)
        return worker

    def run(self, *flags: str, worker_id: str = "w0", **environment: str) -> int:
        """Run a worker until it ends by itself."""
        return self.start(worker_id, "until-end", *flags, **environment).wait(180)

    def log(self, worker_id: str = "w0") -> str:
        """A worker's log; `*` is everybody's."""
        return "".join(path.read_text() for path in sorted(self.logs.glob(f"{worker_id}.log")))

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
        rows: list[tuple[int, bytes, bytes]] = []
        ended: set[int] = set()
        while len(ended) < PARTITIONS:
            for message in consumer.consume(5000, 1):
                if message.error() is None:
                    rows.append((message.partition(), message.key(), message.value()))
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    ended.add(message.partition())
        consumer.close()
        return rows

    def wait_for(self, rows: int, timeout: float = 120) -> None:
        deadline = time.monotonic() + timeout
        while len(self.read("forwarded")) < rows:
            assert time.monotonic() < deadline, self.log()[-4000:]
            time.sleep(0.5)

    def differences(self, records: int) -> list[str]:
        """What is not as it must be: every record forwarded once and in order, every count the
        oracle's, no transaction left open."""
        found = []
        forwarded = [value.decode() for _, _, value in self.read("forwarded")]
        if len(forwarded) != records or len(set(forwarded)) != records:
            unique = len(set(forwarded))
            found.append(f"{records} records: {len(forwarded)} forwarded, {unique} different ones")
        for partition in range(PARTITIONS):
            offsets = [int(v.split("/")[1]) for v in forwarded if v.startswith(f"{partition}/")]
            if offsets != sorted(offsets):
                found.append(f"partition {partition} is out of order")
        last = {(p, key.decode()): int(value) for p, key, value in self.read("counts")}
        counts: Counter[str] = Counter()
        for (_, key), n in last.items():
            counts[key] += n
        if counts != self.produced:
            wrong = {k: (self.produced[k], counts[k]) for k in self.produced | counts}
            found.append(f"counts: {[(k, *v) for k, v in wrong.items() if v[0] != v[1]][:5]}")
        deadline = time.monotonic() + LONGEST_OPEN
        while (held := self.held_back()) and time.monotonic() < deadline:
            time.sleep(0.5)
        return found + [f"an open transaction in {place}" for place in held]

    def assert_exact(self, records: int) -> None:
        """Nothing lost, doubled, out of order, torn or left open."""
        assert self.differences(records) == []

    def held_back(self) -> list[str]:
        """Partitions whose last stable offset is below their end."""
        admin = AdminClient({"bootstrap.servers": self.kafka})
        places = [
            TopicPartition(self.topic(topic), p)
            for topic in ("forwarded", "counts", "dead")
            for p in range(PARTITIONS)
        ]
        ends = []
        for level in (IsolationLevel.READ_COMMITTED, IsolationLevel.READ_UNCOMMITTED):
            asked = dict.fromkeys(places, OffsetSpec.latest())
            answers = admin.list_offsets(asked, isolation_level=level, request_timeout=20)
            ends.append({tp: future.result().offset for tp, future in answers.items()})
        return [f"{p.topic}/{p.partition}" for p in places if ends[0][p] < ends[1][p]]

    def close(self) -> None:
        """End the workers."""
        for worker in self.workers:
            if worker.poll() is None:
                worker.kill()
                worker.wait()
