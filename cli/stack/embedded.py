"""The embedded broker: librdkafka's mock cluster, hosted by a child process.

Upstream: the stack, when no real Kafka is asked for; needs Python alone. It holds no promise: it
keeps about 5 MB a partition, drops what is older, forgets all at its end, creates topics on first
use (4 partitions; creating them explicitly fails), stores no offsets sent to a transaction and
isolates nothing. So the worker commits plainly on it, and the producer must wait for the readers.
"""

import signal
import sys
from pathlib import Path

from confluent_kafka import Producer

from streamgauge.cli.stack.server import Server

PARTITIONS = 4
KEPT_BYTES = 5 << 20


class EmbeddedKafka(Server):
    """The mock cluster in a process of its own; `bootstrap` is known once it has started."""

    name = "EmbeddedKafka"
    bootstrap = ""

    def prepare(self) -> list[str]:
        """Returns the command."""
        self._address_file.unlink(missing_ok=True)
        return [sys.executable, "-m", __name__, str(self._address_file)]

    def answers(self) -> bool:
        """Whether the address is known, which is when it serves."""
        if not self._address_file.exists():
            return False
        self.bootstrap = self.address = self._address_file.read_text()
        return True

    @property
    def _address_file(self) -> Path:
        return self.data_dir / "address"


def host(address_file: Path) -> None:
    """Serve a mock cluster until the process ends; its address goes to the file."""
    cluster = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "log_level": 0})
    (broker,) = cluster.list_topics(timeout=10).brokers.values()
    written = address_file.with_suffix(".new")
    written.write_text(f"{broker.host}:{broker.port}")
    written.rename(address_file)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    host(Path(sys.argv[1]))
