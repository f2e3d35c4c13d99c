"""The local broker: started, crashed, bounced, found again, and refused twice on one folder."""

import os
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from streamgauge.cli.errors import CommandError, MissingRequirementError
from streamgauge.cli.stack import kafka as local
from streamgauge.cli.stack.kafka import LocalKafka


def write(address: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": address})
    producer.produce("notes", value, partition=0)
    assert producer.flush(60) == 0


def read(address: str, count: int) -> list[bytes]:
    consumer = Consumer({"bootstrap.servers": address, "group.id": "reader"})
    consumer.assign([TopicPartition("notes", 0, 0)])
    found = [message.value() for message in consumer.consume(count, timeout=60)]
    consumer.close()
    return found


@pytest.mark.kafka
def test_data_and_address_survive_a_crash_and_a_clean_bounce(tmp_path: Path) -> None:
    with LocalKafka(tmp_path / "kafka") as broker:
        address = broker.bootstrap
        assert local.running(broker.data_dir) == (broker.pid, address)
        write(address, b"one")
        broker.restart(hard=True)
        write(address, b"two")
        broker.restart()
        assert broker.bootstrap == address
        assert read(address, 2) == [b"one", b"two"]
        with pytest.raises(CommandError, match=f"already runs on .* at {address}"):
            LocalKafka(broker.data_dir).start()
    assert broker.pid is None
    assert local.running(broker.data_dir) is None


@pytest.mark.kafka
def test_the_broker_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = """
        import os, sys
        from pathlib import Path
        from streamgauge.cli.stack.kafka import LocalKafka
        LocalKafka(Path(sys.argv[1])).start()
        os.kill(os.getpid(), 9)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    assert subprocess.run(command).returncode == -9
    deadline = time.monotonic() + 60
    while local.running(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert local.running(tmp_path) is None


@pytest.mark.kafka
def test_a_broker_that_cannot_start_shows_its_log(tmp_path: Path) -> None:
    broker = LocalKafka(tmp_path, options={"num.partitions": "none"})
    with pytest.raises(CommandError, match=r"num\.partitions"):
        broker.start()
    assert local.running(tmp_path) is None


def test_missing_java_and_maven_are_named_with_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    with pytest.raises(MissingRequirementError, match=r"needs Maven .* apt-get install"):
        local.install()
    with pytest.raises(MissingRequirementError, match="needs Java"):
        local.java()


MAVEN = """#!/bin/sh
for word in "$@"; do case $word in -DoutputDirectory=*) folder=${word#*=};; esac; done
echo run >> $MAVEN_RUNS; touch $folder/kafka.jar; exit $MAVEN_EXIT
"""


@pytest.fixture
def maven_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Maven that makes one jar; the file counts its runs."""
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "mvn"
    script.write_text(MAVEN)
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MAVEN_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("MAVEN_EXIT", "0")
    return tmp_path / "runs"


def test_jars_are_fetched_once_however_many_ask(maven_runs: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        (folder,) = set(pool.map(lambda _: local.install(), range(4)))
    assert [jar.name for jar in folder.iterdir()] == ["kafka.jar"]
    assert maven_runs.read_text() == "run\n"


def test_jars_half_fetched_are_not_kept(maven_runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAVEN_EXIT", "1")
    with pytest.raises(CommandError, match="is its repository reachable"):
        local.install()
    cache = maven_runs.with_name("cache") / "streamgauge"
    assert [left.name for left in cache.iterdir()] == ["kafka.lock"]


def test_a_pid_file_of_a_process_that_is_something_else_by_now_means_nothing(
    tmp_path: Path,
) -> None:
    (tmp_path / "kafka.pid").write_text(f"{os.getpid()} 127.0.0.1:1\n")
    assert local.running(tmp_path) is None
