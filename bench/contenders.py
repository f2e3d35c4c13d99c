"""Who runs: how each contender is installed, started and watched, as data.

Everything a program needs to know it finds in its environment: GROUP, SOURCE, OUT, KAFKA,
REGISTRY, STATE, SCHEMA.
"""

import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from streamgauge.cli.stack import kafka

HERE = Path(__file__).parent
CACHE = HERE.parent / ".streamgauge" / "bench"


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One program that does a job; `prepare` installs it and gives the command to start it."""

    name: str
    guarantee: str
    prepare: Callable[[], list[str]]
    share: float = 1.0  # of the events: a slow one gets fewer
    inner: str = "{group}-repartition"  # the topic between its stages
    group: str = "{group}"  # the consumer group, given the name of the run
    out: str = "{group}-out"
    environment: Mapping[str, str] | None = None


def _ours(program: str) -> Callable[[], list[str]]:
    return lambda: [sys.executable, "-u", str(HERE / "jobs" / program)]


def _faust() -> list[str]:
    home = CACHE / "faust"
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        requirements = HERE / "peers" / "faust" / "requirements.txt"
        subprocess.run([str(python), "-m", "pip", "install", "-qr", str(requirements)], check=True)
        (home / "ready").touch()
    app = HERE / "peers" / "faust" / "app.py"
    return [str(python), "-u", str(app), "worker", "-l", "warn", "--without-web"]


def _kafka_streams() -> list[str]:
    source, home = HERE / "peers" / "kstreams", CACHE / "kstreams"
    if not (home / "lib").exists():
        command = ["mvn", "-q", "-B", "-f", str(source / "pom.xml")]
        command += ["dependency:copy-dependencies", f"-DoutputDirectory={home / 'lib'}"]
        subprocess.run(command, check=True)
    program = source / "Rollup.java"
    javac = [kafka.java() + "c", "-cp", f"{home / 'lib'}/*", "-d", str(home / "classes")]
    subprocess.run([*javac, str(program)], check=True)
    settings = f"-Dlog4j2.configurationFile={source / 'log4j2.xml'}"
    path = f"{home / 'classes'}:{home / 'lib'}/*:{kafka.install()}/*"  # the broker's log4j
    return [kafka.java(), "-Xmx4g", settings, "-cp", path, "Rollup"]


STREAMGAUGE = Contender(
    name="streamgauge",
    guarantee="exactly once",
    prepare=_ours("rollup.py"),
    inner="{group}-partials",
    environment={"POLARS_MAX_THREADS": "1"},
)
KAFKA_STREAMS = Contender(
    name="kstreams",
    guarantee="exactly once",
    prepare=_kafka_streams,
    inner="{group}-by-repartition",
)
FAUST = Contender(name="faust", guarantee="at least once", prepare=_faust, share=0.01)
