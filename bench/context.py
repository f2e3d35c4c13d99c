"""What a benchmark works with: a folder, a real Kafka, topics of events, and what was asked for.

Upstream: run.py, which makes one for the whole run. Downstream: each benchmark. The broker starts
with the first benchmark that asks for it and is shared by all, so names of topics and groups begin
with the benchmark's.
"""

import itertools
import json
import sys
import time
from collections.abc import Iterator, Set
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from confluent_kafka.admin import AdminClient, NewTopic

from bench.events import SCHEMA, Traffic, load
from streamgauge.cli.stack.kafka import LocalKafka
from streamgauge.schemas.registry import open_registry

HERE = Path(__file__).parent
CACHE = HERE.parent / ".streamgauge" / "bench"
PARTITIONS = 4


@dataclass(kw_only=True, eq=False)
class Context:
    """One run of the suite; leave it by `close`."""

    folder: Path
    events: int
    """The smaller of the two sizes between which the slope is taken."""
    peers: Set[str] = frozenset()
    slope: bool = True
    timeout: float = 900
    """Seconds a single run may take."""
    seconds: float = 40
    """How long a steady rate is held."""
    stack: ExitStack = field(default_factory=ExitStack)
    _filled: set[str] = field(default_factory=set)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @cached_property
    def kafka(self) -> LocalKafka:
        """The broker, started on first use."""
        return self.stack.enter_context(LocalKafka(self.folder / "kafka"))

    @property
    def registry(self) -> str:
        """The address of the schema registry."""
        return f"file:{self.folder / 'registry'}"

    def create(self, topic: str, partitions: int = PARTITIONS) -> None:
        """Make a topic that keeps all it is given, whatever the records' time."""
        settings = {"retention.ms": "-1", "message.timestamp.type": "LogAppendTime"}
        admin = AdminClient({"bootstrap.servers": self.kafka.bootstrap, "log_level": 0})
        for done in admin.create_topics([NewTopic(topic, partitions, 1, config=settings)]).values():
            done.result()

    @cached_property
    def schema_id(self) -> int:
        """The id under which bench.Event is registered."""
        return open_registry(self.registry).register("bench.Event", json.loads(SCHEMA))

    def topic_of(self, traffic: Traffic) -> str:
        """A topic with these events, filled on first use and shared from then on."""
        shape = traffic.shape
        topic = f"events-{traffic.count}-{traffic.partitions}-{shape.users}-{shape.pages}"
        if topic not in self._filled:
            started = time.monotonic()
            self.create(topic, traffic.partitions)
            load(self.kafka.bootstrap, topic, self.schema_id, traffic.chunks())
            self._filled.add(topic)
            say(f"{topic}: filled in {time.monotonic() - started:.0f} s")
        return topic

    def unique(self, name: str) -> str:
        """A name for a group or topic that nobody in this run has."""
        return f"{name}-{next(self._numbers)}"

    def close(self) -> None:
        """Stop what was started."""
        self.stack.close()


def say(line: str) -> None:
    """Tell whoever waits; standard output is for the results."""
    print(line, file=sys.stderr, flush=True)
