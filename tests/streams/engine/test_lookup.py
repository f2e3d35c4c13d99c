"""What restoring asks the cluster, over a bounce of it."""

from pathlib import Path

import pytest
from confluent_kafka import Producer

from streamgauge.cli.stack.kafka import LocalKafka
from streamgauge.streams.engine.lookup import Lookup


@pytest.mark.kafka
def test_ends_are_told_again_after_a_bounce(tmp_path: Path) -> None:
    with LocalKafka(tmp_path / "kafka") as broker:
        lookup = Lookup({"bootstrap.servers": broker.bootstrap})
        producer = Producer({"bootstrap.servers": broker.bootstrap})
        producer.produce("notes", b"one", partition=0)
        assert producer.flush(60) == 0
        assert lookup.ends([("notes", 0)]) == {("notes", 0): 1}
        broker.restart(hard=True)
        producer.produce("notes", b"two", partition=0)
        assert producer.flush(60) == 0
        assert lookup.ends([("notes", 0)]) == {("notes", 0): 2}
