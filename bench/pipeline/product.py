"""One namespace of the product on real servers: its worker and sinks as processes of their own.

Upstream: each benchmark, which starts what it measures. Downstream: `streamgauge worker` and
`streamgauge sink`; their CPU and memory from the kernel, their counters from their /metrics.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Self
from urllib.request import urlopen

import psutil
import psycopg

from bench import events
from bench.context import CACHE, Context
from streamgauge.cli.settings import Settings
from streamgauge.cli.stack import process
from streamgauge.cli.stack.lag import Broker
from streamgauge.cli.stack.postgres import LocalPostgres
from streamgauge.cli.stack.redis import LocalRedis
from streamgauge.cli.stack.supervisor import streamgauge
from streamgauge.schemas import control
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.experiments import Experiment, load_experiment
from streamgauge.schemas.registry import open_registry
from streamgauge.schemas.topics import create_topics, qualified
from streamgauge.sinks.runner import schema_name

EXPERIMENTS = Path(__file__).with_name("experiments")
"""Three, with CUPED, of what the traffic exposes."""

_SAMPLE = re.compile(r"^(\w+)(?:{(.*)})? (\S+)$", re.MULTILINE)


@dataclass(kw_only=True)
class Running:
    """One process of the product."""

    name: str
    popen: subprocess.Popen[bytes]
    port: int
    log: Path
    started: float = field(default_factory=time.monotonic)

    @property
    def cpu_s(self) -> float:
        """User and system, with all its children."""
        return sum(sum(one.cpu_times()[:2]) for one in self._tree())

    @property
    def rss_mb(self) -> float:
        """Resident memory now, of it and its children."""
        return sum(one.memory_info().rss for one in self._tree()) / (1 << 20)

    @property
    def peak_rss_mb(self) -> float:
        """The most it ever had (of the process itself), by the kernel's own account."""
        status = Path(f"/proc/{self.popen.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        return int(found[1]) / 1024 if found else self.rss_mb

    def metric(self, name: str) -> Mapping[str, float]:
        """A metric of its page, by the text of its labels."""
        with urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as page:
            text = page.read().decode()
        return {labels: float(value) for of, labels, value in _SAMPLE.findall(text) if of == name}

    def ready(self) -> bool:
        """Whether it has its partitions and their state."""
        self.check()
        try:
            with urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=10) as page:
                return bool(page.status == 200)
        except OSError:
            return False

    def check(self) -> None:
        """Raise where it has ended."""
        if self.popen.poll() is not None:
            raise RuntimeError(f"{self.name} has ended, see {self.log}\n{process.tail(self.log)}")

    def _tree(self) -> list[psutil.Process]:
        root = psutil.Process(self.popen.pid)
        return [root, *root.children(recursive=True)]


class Product:
    """A namespace, its topics, and what runs on it; leaving it stops all of it."""

    def __init__(self, context: Context, namespace: str, partitions: int = 4) -> None:
        self.context, self.namespace = context, namespace
        self.kafka = context.kafka.bootstrap
        create_topics({"bootstrap.servers": self.kafka}, namespace, partitions=partitions)
        self._stack = ExitStack()
        self._broker = Broker(self.kafka)
        self.processes: dict[str, Running] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self.processes):
            self.stop(name)
        self._stack.close()

    @cached_property
    def postgres(self) -> LocalPostgres:
        """A durable Postgres, which waits for the disk."""
        self.context.folder.chmod(0o755)  # as root Postgres runs as another user
        return self._stack.enter_context(LocalPostgres(self._folder / "postgres"))

    @cached_property
    def redis(self) -> LocalRedis:
        """A Redis with an append-only file."""
        return self._stack.enter_context(LocalRedis(self._folder / "redis"))

    @property
    def _folder(self) -> Path:
        folder = self.context.folder / self.namespace
        folder.mkdir(mode=0o755, exist_ok=True)
        return folder

    def worker(
        self, name: str = "worker", *flags: str, env: Mapping[str, str] | None = None
    ) -> Running:
        """Start a worker whose id is its name."""
        return self._start(name, "worker", "--id", name, *flags, env=env)

    def sink(self, kind: str, *flags: str) -> Running:
        """Start a sink, and its server if there is none yet."""
        target = self.postgres.dsn if kind == "postgres" else self.redis.url
        return self._start(f"sink-{kind}", "sink", kind, f"--{kind}", target, *flags)

    def collector(self, *flags: str) -> Running:
        """Start a collector."""
        return self._start("collector", "collect", *flags, port_flag="--port")

    def stop(self, name: str, *, hard: bool = False) -> None:
        """End a process, in good order or by SIGKILL."""
        running = self.processes.pop(name)
        if hard:
            running.popen.kill()
        process.stop(running.popen, 30)

    def settings(self) -> Settings:
        """What its processes are told, and what `verify` needs."""
        servers = {
            name: getattr(server, address)
            for name, address in (("postgres", "dsn"), ("redis", "url"))
            if (server := self.__dict__.get(name))
        }
        return Settings(
            kafka=self.kafka,
            registry=self.context.registry,
            namespace=self.namespace,
            dir=self._folder,
            **servers,
        )

    def lag(self, what: str, topic: str) -> int:
        """Records of a topic that the `worker` or a sink has yet to commit."""
        of = qualified(self.namespace, topic)
        return sum(p.lag for p in self._broker.positions(self.namespace, what) if p.topic == of)

    def written_tables(self) -> int:
        """Rows that a Postgres sink inserts and updates until it has everything."""
        self.sink("postgres")
        topics = ("metrics", "dead-letters", "late-events")
        self.await_(lambda: not any(self.lag("sink-postgres", t) for t in topics), "end")
        return self.table_rows()

    def table_rows(self) -> int:
        """Rows that were inserted or updated in the namespace's tables."""
        query = """SELECT sum(n_tup_ins + n_tup_upd) FROM pg_stat_user_tables
                   WHERE schemaname = %s AND relname NOT IN ('sink_offsets', 'alembic_version')"""
        time.sleep(2)  # the server tells its statistics with some delay
        with psycopg.connect(self.postgres.dsn) as connection:
            found = connection.execute(query, [schema_name(self.namespace)]).fetchone()
        return int(found[0] or 0) if found else 0

    def await_(self, what: Callable[[], bool], said: str, poll: float = 0.1) -> None:
        """Wait, as long as a run may take."""
        deadline = time.monotonic() + self.context.timeout
        while not what():
            for running in self.processes.values():
                running.check()
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.namespace}: no {said} in {self.context.timeout:.0f} s")
            time.sleep(poll)

    def _start(
        self,
        name: str,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        port_flag: str = "--http-port",
    ) -> Running:
        port = process.free_port()
        log = CACHE / "logs" / f"{self.namespace}-{name}.log"
        log.unlink(missing_ok=True)
        # As the stack does: frames are small, polars' own threads cost more than they give.
        environment = {**self.settings().environment(), "POLARS_MAX_THREADS": "1", **(env or {})}
        popen = process.spawn(
            streamgauge(*arguments, port_flag, str(port)), log=log, env=environment
        )
        running = Running(name=name, popen=popen, port=port, log=log)
        self.processes[name] = running
        return running


def start_experiments(context: Context, namespace: str) -> None:
    """Before the first event, so that all exposures count."""
    kafka = {"bootstrap.servers": context.kafka.bootstrap}
    codec = Codec(open_registry(context.registry))
    for file in sorted(EXPERIMENTS.glob("*.yaml")):
        begun = Experiment(
            definition=load_experiment(file),
            state="running",
            started_at=events.START,
            version=1,
        )
        control.publish(kafka, namespace, codec, begun.control())


def rows_out(worker: Running) -> Counter[str]:
    """Rows that a worker has written so far, by topic."""
    counts: Counter[str] = Counter()
    for labels, value in worker.metric("streamgauge_records_out_total").items():
        counts[labels.split('"')[1]] += int(value)
    return counts
