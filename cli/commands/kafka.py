"""`streamgauge kafka`: a real Kafka on this machine, without containers."""

import os
import signal
import time
from pathlib import Path

import click

from streamgauge.cli import output
from streamgauge.cli.errors import CommandError
from streamgauge.cli.settings import Settings, configured
from streamgauge.cli.stack.kafka import LocalKafka, running

STOP_SECONDS = 30.0


@click.group()
def kafka() -> None:
    """Start and stop a real Apache Kafka on 127.0.0.1 (needs Java and Maven, not Docker).

    \b
    Examples:
      streamgauge kafka start
      export KAFKA_BOOTSTRAP=$(streamgauge kafka start)
      streamgauge kafka stop
    """


@kafka.command()
@configured("dir")
@click.option("--port", type=int, default=None, help="Its port (default: a free one).")
@output.option
def start(settings: Settings, port: int | None, as_json: bool) -> None:
    """Start it and print its address; it runs until `streamgauge kafka stop`."""
    folder = settings.dir / "kafka"
    found = running(folder)
    if found is None:
        broker = LocalKafka(folder, port, detached=True)
        broker.start()
        found = running(folder)
        assert found is not None
    pid, address = found
    output.write({"kafka": address, "pid": pid, "dir": str(folder)}, as_json, address)


@kafka.command()
@configured("dir")
@output.option
def stop(settings: Settings, as_json: bool) -> None:
    """Stop it; its data stay in the state folder."""
    folder = settings.dir / "kafka"
    found = running(folder)
    if found is not None:
        _end(found[0], folder)
    text = f"stopped {found[1]}" if found else f"no Kafka runs in {folder}"
    output.write({"stopped": found[1] if found else None}, as_json, text)


def _end(pid: int, folder: Path) -> None:
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    while running(folder):
        if time.monotonic() > deadline:
            raise CommandError(f"process {pid} does not stop: see {folder}/kafka.log")
        time.sleep(0.05)
