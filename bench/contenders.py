"""Who runs: how each contender is installed, started and watched, as data.

Everything a program needs to know it finds in its environment: GROUP, SOURCE, OUT, KAFKA,
REGISTRY, STATE, SCHEMA, PARTITIONS.
"""

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from bench.context import CACHE, HERE
from streamgauge.cli.stack import kafka

_PEERS = HERE / "peers"


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One program that does a job; `prepare` installs it and gives the command to start it."""

    name: str
    guarantee: str
    emits: str
    """When it writes what of its results."""
    prepare: Callable[[], list[str]]
    variant: str = ""  # where a peer runs twice
    share: float = 1.0  # of the events: a slow one gets fewer
    beat_by: float | None = None  # how many times its cost ours is meant to be below
    inner: str = "{group}-repartition"  # the topic between its stages
    wants_inner: bool = False  # that topic must be there before it starts
    until_done: bool = False  # it says DONE; the rest is done with the last record
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """For people."""
        return f"{self.name}, {self.variant}" if self.variant else self.name

    @property
    def label(self) -> str:
        """For names of groups and topics."""
        return f"{self.name}-{self.variant}" if self.variant else self.name


def streamgauge(program: str, emits: str) -> Contender:
    """Ours."""
    return Contender(
        name="streamgauge",
        guarantee="exactly once",
        emits=emits,
        prepare=lambda: [sys.executable, "-u", str(HERE / "jobs" / program)],
        inner="{group}-partials",
        environment={"POLARS_MAX_THREADS": "1"},
    )


def kafka_streams(program: str) -> Contender:
    """Kafka Streams: on two threads, with its record cache."""
    return Contender(
        name="kstreams",
        guarantee="exactly once",
        emits="keys that changed, at each commit (1 s) or when its cache is full",
        prepare=lambda: _kafka_streams(program),
        beat_by=4.5,
        inner="{group}-by-repartition",
    )


def flink(
    program: str, *, emits: str, variant: str = "", until_done: bool = False, **environment: str
) -> Contender:
    """Flink: a local cluster of two slots, state on the heap, checkpoints to disk."""
    return Contender(
        name="flink",
        variant=variant,
        guarantee="exactly once",
        emits=emits,
        prepare=lambda: _flink(program),
        beat_by=2.5,
        until_done=until_done,
        environment=environment,
    )


def quix(program: str) -> Contender:
    """Quix Streams: one process."""
    return Contender(
        name="quix",
        guarantee="exactly once",
        emits="every event",
        prepare=lambda: [str(_python("quix")), "-u", str(_PEERS / "quix" / program)],
        share=0.1,
        inner="repartition__{group}--{source}--key",
    )


def faust(program: str) -> Contender:
    """Plain Faust on aiokafka: one process."""
    worker = ("worker", "-l", "warn", "--without-web")
    return Contender(
        name="faust",
        guarantee="at least once",
        emits="every event",
        prepare=lambda: [str(_python("faust")), "-u", str(_PEERS / "faust" / program), *worker],
        share=0.01,
        wants_inner=True,  # or it sees the topic after five minutes only
    )


PEERS = ("flink", "kstreams", "quix", "faust")


def _python(peer: str) -> Path:
    """The Python of a peer's own environment, made the first time."""
    home = CACHE / peer
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        requirements = _PEERS / peer / "requirements.txt"
        subprocess.run([str(python), "-m", "pip", "install", "-qr", str(requirements)], check=True)
        (home / "ready").touch()
    return python


def _kafka_streams(program: str) -> list[str]:
    jars = f"{CACHE / 'kstreams' / 'lib'}/*:{kafka.install()}/*"  # the broker's log4j
    return [*_java("kstreams", jars), program]


def _flink(program: str) -> list[str]:
    java, *rest = _java("flink", f"{CACHE / 'flink' / 'lib'}/*")
    opens = [f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in ("lang", "util", "time")]
    return [java, *opens, *rest, program]


def _java(peer: str, jars: str) -> list[str]:
    """Compile a peer's programs, with the jars that Maven gets the first time; how to run one."""
    source, home = _PEERS / peer, CACHE / peer
    if not (home / "lib").exists():
        command = ["mvn", "-q", "-B", "-f", str(source / "pom.xml")]
        command += ["dependency:copy-dependencies", f"-DoutputDirectory={home / 'lib'}"]
        subprocess.run(command, check=True)
    programs = [str(program) for program in source.glob("*.java")]
    javac = [kafka.java() + "c", "-cp", jars, "-d", str(home / "classes")]
    subprocess.run([*javac, *programs], check=True)
    settings = f"-Dlog4j2.configurationFile={_PEERS / 'log4j2.xml'}"
    return [kafka.java(), "-Xmx4g", settings, "-cp", f"{home / 'classes'}:{jars}"]
