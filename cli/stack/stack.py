"""One whole Streamgauge on this machine: broker, Postgres, Redis, archive, workers and sinks.

Upstream: `demo`, `up` and the tests. Downstream: servers and supervised processes, all children
of this process. What the settings give an address for is used as it is; the rest is started.
Invariants: one stack a folder; on the embedded broker a stack begins anew, for the broker does;
workers commit in transactions on every other broker.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Self, TypeVar

from streamgauge.cli.errors import CommandError
from streamgauge.cli.settings import RUNNING, Settings
from streamgauge.cli.stack.embedded import EmbeddedKafka
from streamgauge.cli.stack.kafka import LocalKafka, running
from streamgauge.cli.stack.postgres import LocalPostgres
from streamgauge.cli.stack.process import tail
from streamgauge.cli.stack.redis import LocalRedis
from streamgauge.cli.stack.server import Server
from streamgauge.cli.stack.supervisor import Child, Supervisor, streamgauge
from streamgauge.schemas.metric_file import parse
from streamgauge.schemas.topics import create_topics

EMBEDDED = "embedded"
LOCAL = "local"
S = TypeVar("S", bound=Server)
SINKS = ("postgres", "redis", "archive")


class Stack:
    """A stack over `folder`; once started, `settings` holds every address.

    `settings.kafka` is `embedded` (also the default), `local` or an address. `fresh` drops what
    an earlier stack left in the folder.
    """

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        *,
        sinks: Sequence[str] = SINKS,
        worker_flags: Sequence[str] = (),
        fresh: bool = False,
    ) -> None:
        self.kind = settings.kafka or EMBEDDED
        self.embedded = self.kind == EMBEDDED
        self.folder = folder.absolute()
        self.settings = settings
        self.servers: list[Server] = []
        self._sinks = sinks
        self._webhooks = ("webhook",) if _has_webhooks(settings) else ()
        self._worker_flags = worker_flags
        self._fresh = fresh or self.embedded
        self._supervisor: Supervisor | None = None
        self._lock: IO[str] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def children(self) -> tuple[Child, ...]:
        """The workers and sinks."""
        return self._supervisor.children if self._supervisor else ()

    @property
    def addresses(self) -> dict[str, str]:
        """Where everything is, for people and programs."""
        names = ("kafka", "registry", "postgres", "redis", "archive")
        found = {name: str(getattr(self.settings, name)) for name in names}
        return {**found, "namespace": self.settings.namespace, "dir": str(self.folder)}

    def start(self) -> None:
        """Start the servers, create the topics, start workers and sinks."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._take_folder()
        self._start_servers()
        create_topics(
            {"bootstrap.servers": self.settings.kafka},
            self.settings.namespace,
            embedded=self.embedded,
        )
        self._supervisor = Supervisor(self._workers() + self._sink_processes())
        self._supervisor.start()

    def stop(self) -> None:
        """Stop everything that was started, workers first."""
        if self._supervisor is not None:
            self._supervisor.stop()
        for server in reversed(self.servers):
            server.stop()
        if self._lock is not None:
            if (self.settings.dir / RUNNING).exists():
                self._withdraw()
            self._lock.close()
            self._lock = None

    def check(self) -> None:
        """Raise where a server has ended or a process fails over and over."""
        for server in self.servers:
            if server.pid is None:
                raise CommandError(
                    f"{server.name} has ended, see {server.log}:\n{tail(server.log)}"
                )
        if self._supervisor is not None and (child := self._supervisor.failing):
            raise CommandError(f"{child.name} keeps failing, see {child.log}:\n{tail(child.log)}")

    def announce(self) -> None:
        """Let other commands in this folder find the addresses."""
        told: dict[str, Any] = {"pid": os.getpid(), **self.addresses}
        told["transactional"] = self.settings.transactional
        told["processes"] = [{"name": one.name, "log": str(one.log)} for one in self.children]
        self.settings.dir.mkdir(parents=True, exist_ok=True)
        (self.settings.dir / RUNNING).write_text(json.dumps(told))

    def _withdraw(self) -> None:
        with suppress(OSError, ValueError):
            if json.loads((self.settings.dir / RUNNING).read_text())["pid"] == os.getpid():
                (self.settings.dir / RUNNING).unlink()

    def _take_folder(self) -> None:
        lock = (self.folder / "lock").open("a+")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise CommandError(
                f"another stack runs in {self.folder}: stop it, or use another folder by --dir"
            ) from None
        self._lock = lock
        if self._fresh:
            for name in ("postgres", "redis", "archive", "registry", "broker", "logs"):
                shutil.rmtree(self.folder / name, ignore_errors=True)

    def _start_servers(self) -> None:
        given, found = self.settings, dict[str, Any]()
        broker: EmbeddedKafka | LocalKafka | None = None
        if self.embedded:
            broker = self._launch(EmbeddedKafka(self.folder / "broker"))
        elif self.kind == LOCAL:
            home = given.dir / "kafka"
            if there := running(home):
                found["kafka"] = there[1]
            else:
                broker = self._launch(LocalKafka(home))
        durable = not self.embedded
        if given.postgres is None:
            postgres = self._launch(LocalPostgres(self.folder / "postgres", durable=durable))
            found["postgres"] = postgres.dsn
        if given.redis is None:
            redis = self._launch(LocalRedis(self.folder / "redis", durable=durable))
            found["redis"] = redis.url
        for server in self.servers:
            server.await_answer()
        if broker is not None:
            found["kafka"] = broker.bootstrap
        if self.embedded:
            found["transactional"] = False
        if given.registry is None:
            found["registry"] = f"file:{self.folder / 'registry'}"
        if given.archive is None:
            found["archive"] = self.folder / "archive"
        self.settings = given.model_copy(update=found)

    def _launch(self, server: S) -> S:
        self.servers.append(server)
        server.launch()
        return server

    def _workers(self) -> list[Child]:
        return [
            self._child(f"worker-{number}", "worker", "--id", str(number), *self._worker_flags)
            for number in range(self.settings.workers)
        ]

    def _sink_processes(self) -> list[Child]:
        # The embedded broker keeps little: there the archive writes smaller files, sooner.
        flags = {"archive": ("--interval", "1")} if self.embedded else {}
        return [
            self._child(f"sink-{name}", "sink", name, *flags.get(name, ()))
            for name in (*self._sinks, *self._webhooks)
        ]

    def _child(self, name: str, *arguments: str) -> Child:
        # Frames are small: polars' own threads cost more than they give. A record that it cannot
        # read is a dead letter, not a reason for a backtrace.
        quiet = {"POLARS_MAX_THREADS": "1", "RUST_BACKTRACE": "0"}
        log = self.folder / "logs" / f"{name}.log"
        return Child(
            name=name,
            command=streamgauge(*arguments),
            log=log,
            env={**self.settings.environment(), **quiet},
        )


def _has_webhooks(settings: Settings) -> bool:
    """Whether the alert file has any; what else is wrong with it, workers and the sink tell."""
    if settings.alerts is None or not settings.alerts.exists():
        return False
    content, _ = parse(settings.alerts.read_text(encoding="utf-8"), str(settings.alerts))
    return isinstance(content, dict) and bool(content.get("webhooks"))
