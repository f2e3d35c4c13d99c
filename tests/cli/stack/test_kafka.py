"""The local broker: started, crashed, bounced, found again, and refused twice on one folder."""

import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from streamgauge.cli.errors import CommandError, MissingRequirementError
from streamgauge.cli.stack import kafka as local
from streamgauge.cli.stack.kafka import LocalKafka

pytestmark = pytest.mark.kafka


def write(address: str, value: bytes) -> None:
    producer = Producer({"bootstrap.servers": address})
    producer.produce("notes", value, partition=0)
    assert producer.flush(20) == 0


def read(address: str, count: int) -> list[bytes]:
    consumer = Consumer({"bootstrap.servers": address, "group.id": "reader"})
    consumer.assign([TopicPartition("notes", 0, 0)])
    found = [message.value() for message in consumer.consume(count, timeout=20)]
    consumer.close()
    return found


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
    deadline = time.monotonic() + 5
    while local.running(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert local.running(tmp_path) is None


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
