"""The scratch stack: real Kafka, Postgres and Redis, each behind a proxy; two workers, two sinks.

    worker 0, worker 1, sinks ──> proxy ──> Kafka, Postgres, Redis

Upstream: `run`. Downstream: the faults. Invariants: everything belongs to this run alone and ends
with it; servers and guests are started in the thread that holds the scratch, for they die with it.
"""

import shutil
import subprocess
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Self

from streamgauge.cli.chaos.schedule import SINKS, WORKERS
from streamgauge.cli.settings import Settings
from streamgauge.cli.stack import process
from streamgauge.cli.stack.kafka import LocalKafka
from streamgauge.cli.stack.postgres import LocalPostgres
from streamgauge.cli.stack.proxy import KafkaProxy, Proxy
from streamgauge.cli.stack.redis import LocalRedis
from streamgauge.cli.stack.stack import Stack
from streamgauge.cli.stack.supervisor import Child, streamgauge

NAMESPACE = "chaos"
DATA = ("kafka", "postgres", "redis")


class Scratch:
    """The stack over `folder`; `settings` are what its processes are told."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.folder = folder
        port = process.free_port()
        self.kafka = LocalKafka(
            folder / "kafka",
            advertised=f"127.0.0.1:{port}",
            # A reader that a fault keeps waiting still finds every row.
            options={"log.cleaner.min.compaction.lag.ms": "120000"},
        )
        self.postgres = LocalPostgres(folder / "postgres")
        self.redis = LocalRedis(folder / "redis")
        self.wire = KafkaProxy("127.0.0.1", self.kafka.port, port)
        self.proxies: dict[str, Proxy] = {
            "kafka": self.wire,
            "postgres": Proxy("127.0.0.1", self.postgres.port),
            "redis": Proxy("127.0.0.1", self.redis.port),
        }
        found = {
            "kafka": self.wire.address,
            "postgres": f"postgresql://postgres@{self.proxies['postgres'].address}/postgres",
            "redis": f"redis://{self.proxies['redis'].address}/0",
            "registry": f"file:{folder / 'registry'}",
            "namespace": NAMESPACE,
            "dir": folder,
            "workers": len(WORKERS),
            "transactional": True,
        }
        self.settings = settings.model_copy(update=found)
        # Whoever holds it is alone with the processes: a kill would spoil a zombie.
        self.processes = threading.Lock()
        self._stack = Stack(
            self.settings, folder / "stack", sinks=[name.removeprefix("sink-") for name in SINKS]
        )
        self._open = ExitStack()

    def __enter__(self) -> Self:
        for name in DATA:
            shutil.rmtree(self.folder / name, ignore_errors=True)
        with ExitStack() as opening:
            for proxy in self.proxies.values():
                opening.enter_context(proxy)
            servers = (self.kafka, self.postgres, self.redis)
            for server in servers:
                opening.callback(server.stop)
                server.launch()
            for server in servers:
                server.await_answer()
            opening.enter_context(self._stack)
            self._open = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        for proxy in self.proxies.values():
            proxy.clear()
        self._open.close()

    @property
    def children(self) -> dict[str, Child]:
        """Workers and sinks by name."""
        return {child.name: child for child in self._stack.children}

    def stop_processes(self) -> None:
        """Workers and sinks leave in good order; the servers stay."""
        self._stack.stop()

    def check(self) -> None:
        """Raise where a process fails over and over."""
        self._stack.check()

    def guest(self, name: str, *arguments: str) -> subprocess.Popen[bytes]:
        """One more process of ours beside the supervised ones."""
        log = self.folder / "stack" / "logs" / f"{name}.log"
        return process.spawn(streamgauge(*arguments), log=log, env=self.settings.environment())

    def run(self, name: str, *arguments: str, timeout: float, **settings: str) -> int:
        """Run one of our commands to its end, in another namespace if told; its exit code."""
        told = self.settings.model_copy(update=settings)
        log = self.folder / "stack" / "logs" / f"{name}.log"
        started = process.spawn(streamgauge(*arguments), log=log, env=told.environment())
        try:
            return started.wait(timeout)
        finally:
            process.stop(started, 5)

    def drop_data(self) -> None:
        """Keep the logs, take away what the servers stored."""
        for server in (self.kafka, self.postgres, self.redis):
            shutil.copy(server.log, self.folder / "stack" / "logs")
        for name in DATA:
            shutil.rmtree(self.folder / name, ignore_errors=True)
