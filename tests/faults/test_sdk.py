"""The SDK against what happens to its broker, its collector, its disk and its own process.

    application ── track ──> queue ──> sender ──┬────────────────> Kafka      bounced
       killed -9, again and again               ├──> collector ──> Kafka      both killed -9
                                                └──> spool                    full once

Whatever was told to be delivered or spooled is in the topic; whatever was not accepted was told.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from streamgauge.cli.stack.process import free_port, listens
from streamgauge.cli.verify import Report, VerifyConfig, verify
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.registry import open_registry
from streamgauge.schemas.topics import create_topics, qualified
from tests.faults.sinking import until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(1800)]

APP = Path(__file__).with_name("sdk_app.py")
ALL = os.environ.get("FAULTS") == "all"
RATE = 4000
SOAK = int(os.environ.get("SOAK_EVENTS", "1000000"))
TAIL = 1 << 16


class Applications:
    """One after the other, over the same spool; each killed or left to end."""

    def __init__(self, folder: Path, **settings: object) -> None:
        self.folder = folder
        self._settings = {"spool_dir": str(folder / "spool"), "when_full": "spool", **settings}
        self._first = self._numbers = 0
        self._runs = 0

    def start(self, events: int, rate: float) -> subprocess.Popen:
        self._first, self._numbers = self._numbers, self._numbers + events
        self._runs += 1
        arguments = [json.dumps(self._settings), self._first, self._numbers, rate]
        arguments.append(self.told(self._runs))
        with (self.folder / "app.log").open("a") as log:
            return subprocess.Popen(
                [sys.executable, APP, *map(str, arguments)], stdout=log, stderr=log
            )

    def go_on(self, end: int, rate: float) -> subprocess.Popen:
        """From where the latest one came to, less one: it may have been taken and not told."""
        if self._runs:
            told = re.findall(r"event-(\d+)\n", self._latest())
            self._numbers = max(map(int, told), default=self._first - 2) + 2
        return self.start(end - self._numbers, rate)

    def told(self, run: int) -> Path:
        return self.folder / f"told-{run}"

    def says(self, word: str) -> bool:
        """Whether the latest one was told such a thing lately."""
        return f"\n{word} " in self._latest()

    def _latest(self) -> str:
        path = self.told(self._runs)
        if not path.exists():
            return ""
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL))
            return file.read().decode()

    def deliver_the_rest(self) -> None:
        """One more, which tracks nothing and ends once the spool is empty."""
        assert self.start(0, rate=1).wait(3600) == 0, self.log[-3000:]
        assert list((self.folder / "spool").iterdir()) == []

    @property
    def log(self) -> str:
        return (self.folder / "app.log").read_text()

    def check(self, topic: set[str]) -> Counter:
        """Every promise kept; returns how often each was made."""
        counts: Counter = Counter()
        kept: set[str] = set()
        refused: set[str] = set()
        for run in range(1, self._runs + 1):
            met = defaultdict(set)
            lines = self.told(run).read_text().splitlines()
            for line in lines:
                if len(words := line.split()) > 1:
                    met[words[0]].add(words[1])
            counts.update({word: len(ids) for word, ids in met.items()})
            kept |= met["delivered"] | met["spooled"]
            refused |= met["refused"]
            if lines and lines[-1] == "closed":  # each that was accepted has met its end
                assert met["accepted"] <= met["delivered"] | met["spooled"] | met["dropped"]
            else:
                assert not met["dropped"], met["dropped"]
        missing = kept - topic
        assert not missing, f"{len(missing)} of {len(kept)} lost: {sorted(missing)[:5]}"
        assert not refused & topic, "refused, and there nevertheless"
        return counts


def in_topic(kafka: str, registry: str, namespace: str) -> Counter:
    """How often each event is in the topic."""
    topic = qualified(namespace, "events")
    codec = Codec(open_registry(registry))
    consumer = Consumer(
        {
            "bootstrap.servers": kafka,
            "group.id": "unused",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
        }
    )
    partitions = consumer.list_topics(topic, 20).topics[topic].partitions
    consumer.assign([TopicPartition(topic, each, OFFSET_BEGINNING) for each in partitions])
    found: Counter = Counter()
    ended: set[int] = set()
    while len(ended) < len(partitions):
        for message in consumer.consume(5000, 1.0):
            if message.error() is None:
                found[codec.decode(message.value()).record["event_id"]] += 1
            elif message.error().code() == KafkaError._PARTITION_EOF:
                ended.add(message.partition())
    consumer.close()
    return found


@pytest.fixture(autouse=True)
def topics(broker, namespace):
    create_topics({"bootstrap.servers": broker.bootstrap}, namespace)


def counted(kafka: str, registry: str, namespace: str, folder: Path) -> Report:
    """What a worker makes of the topic, and whether that is right."""
    where = {"kafka": kafka, "registry": registry, "namespace": namespace}
    settings = {f"STREAMGAUGE_{name.upper()}": value for name, value in where.items()}
    environment = {**os.environ, **settings, "STREAMGAUGE_DIR": str(folder / "worker")}
    command = [sys.executable, "-m", "streamgauge.cli", "worker", "--until-end"]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    config = VerifyConfig(
        kafka={"bootstrap.servers": kafka}, registry=registry, namespace=namespace
    )
    return verify(config)


def killed(app: subprocess.Popen) -> None:
    app.send_signal(signal.SIGKILL)
    assert app.wait() == -signal.SIGKILL


def test_bounced_killed_and_with_a_full_spool_the_sdk_keeps_what_it_was_told_to_keep(
    broker, registry_url, namespace, tmp_path
):
    # broker   |there     |away                     |there
    # app 1    |track ····|spooled ··· refused|kill -9
    # app 2                                    |spooled |delivered ·· closed
    # app 3                                                            |what is left
    apps = Applications(
        tmp_path,
        kafka=broker.bootstrap,
        registry=registry_url,
        namespace=namespace,
        timeout_s=1.5,
        batch_s=0.1,
        max_events=300,
        block_s=0.05,
        spool_bytes=400_000,
    )
    app = apps.start(100_000, rate=1500)
    until(lambda: apps.says("delivered"))
    broker.kill()
    until(lambda: apps.says("refused"))
    killed(app)
    app = apps.start(3000, rate=1500)
    until(lambda: apps.says("accepted"))
    broker.start()
    assert app.wait(180) == 0
    apps.deliver_the_rest()

    topic = in_topic(broker.bootstrap, registry_url, namespace)
    counts = apps.check(set(topic))
    assert counts["delivered"] > 500
    assert counts["spooled"] > 500
    assert counts["refused"] > 0


class Collector:
    """`streamgauge collect`, killed and started again."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self.port = free_port()
        self._folder = folder
        self._environment = {"STREAMGAUGE_DIR": str(folder / "state"), **environment}
        self._flags = ["--port", str(self.port), "--spool", str(folder / "theirs")]
        self._flags += ["--spool-mb", "1"]
        self._process: subprocess.Popen | None = None

    def start(self) -> None:
        with (self._folder / "collector.log").open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "streamgauge.cli", "collect", *self._flags],
                env={**os.environ, **self._environment},
                stdout=log,
                stderr=log,
            )

    def await_answer(self) -> None:
        until(lambda: listens(self.port))

    def spooled(self) -> float:
        """Records that are answered and not in Kafka."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
            (records,) = re.findall(rb"\nstreamgauge_collector_spool_records (.*)\n", answer.read())
        return float(records)

    def kill(self) -> None:
        assert self._process is not None
        killed(self._process)


@pytest.mark.slow
@pytest.mark.timeout(2 * 3600)
@pytest.mark.skipif(not ALL, reason="minutes: FAULTS=all (SOAK_EVENTS=1000000)")
@pytest.mark.parametrize("way", ["kafka", "collector"])
def test_a_million_events_by_the_sdk_survive_bounces_kills_and_a_full_spool(
    broker, registry_url, namespace, tmp_path, way
):
    # broker     |there |away     |there  |away |there …   5 times, the first until a spool is full
    # collector  |there            |killed|there …         5 times, with a spool of its own
    # app        |track ····|kill -9|track ····|kill -9 …  3 times; the last one tracks to the end
    # then       what is left in the spool, and a worker counts
    chance = random.Random(1)
    collector = Collector(
        tmp_path,
        STREAMGAUGE_KAFKA=broker.bootstrap,
        STREAMGAUGE_REGISTRY=registry_url,
        STREAMGAUGE_NAMESPACE=namespace,
    )
    if way == "collector":
        collector.start()
        collector.await_answer()
        to = {"endpoint": f"http://127.0.0.1:{collector.port}", "write_key": "secret"}
    else:
        to = {"kafka": broker.bootstrap, "registry": registry_url, "namespace": namespace}
    apps = Applications(
        tmp_path,
        **to,
        timeout_s=3 if way == "kafka" else 10,
        max_events=5000,
        block_s=0.2,
        spool_bytes=10 << 20,
    )
    whole = SOAK / RATE
    kills = [chance.uniform(0.1, 0.2) * whole for _ in range(3)]

    def applications():
        for kill_after in (*kills, None):
            app = apps.go_on(SOAK, rate=RATE)
            try:
                app.wait(kill_after)
            except subprocess.TimeoutExpired:
                killed(app)

    said: dict[str, float] = {}
    began = time.monotonic()

    def done(what: str) -> None:
        nonlocal began
        said[what], began = round(time.monotonic() - began, 1), time.monotonic()

    running = threading.Thread(target=applications)
    running.start()
    for turn in range(5):  # here, for what a thread has started ends with it
        time.sleep(chance.uniform(0.5, 1) * whole / 8)
        broker.kill() if chance.random() < 0.5 else broker.stop()
        if not turn:
            until(lambda: apps.says("refused") or not running.is_alive())
        time.sleep(chance.uniform(0, 8))
        broker.start()
        if way == "collector":
            time.sleep(chance.uniform(1, 5))
            collector.kill()
            time.sleep(chance.uniform(0, 3))
            collector.start()
            collector.await_answer()
    running.join()
    done("tracked")
    apps.deliver_the_rest()
    if way == "collector":
        until(lambda: not collector.spooled(), 600)
        collector.kill()
    done("delivered")
    topic = in_topic(broker.bootstrap, registry_url, namespace)
    counts = apps.check(set(topic))
    twice = sum(number - 1 for number in topic.values())
    done("checked")
    print(f"{way}: {dict(counts)}, {len(topic)} ids in the topic, {twice} written twice")
    assert counts["accepted"] + counts["refused"] >= SOAK - len(kills)
    assert counts["refused"] > 0
    report = counted(broker.bootstrap, registry_url, namespace, tmp_path)
    done("counted")
    print(f"{way}: {report.accepted} counted, {report.duplicates} duplicates; seconds: {said}")
    assert report.ok, report
    assert (report.accepted, report.late, report.duplicates) == (len(topic), 0, twice)
