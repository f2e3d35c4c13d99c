"""A real Apache Kafka without containers: one KRaft node from Maven's jars, on free ports.

Upstream: `streamgauge kafka start`, `--kafka local` and the tests. Downstream: a `java` process
whose data, configuration and log lie in one folder; a broker started there again finds its data.
"""

import base64
import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streamgauge.cli.errors import CommandError, MissingRequirementError
from streamgauge.cli.stack import process

VERSION = "4.3.1"
_POM = Path(__file__).with_name("kafka-pom.xml")
_GET_JAVA = (
    "install Java 17 or later and Maven (Debian/Ubuntu: apt-get install default-jre-headless "
    "maven; macOS: brew install openjdk maven), or give the address of a Kafka that runs"
)


class LocalKafka:
    """One broker over `data_dir`; `bootstrap` is its address, the same after a restart.

    `port` None takes a free one. `advertised` is the address given to clients instead, for a
    proxy in between. `options` are broker settings laid over the defaults. A `detached` broker
    outlives the process that started it and is found again by its pid file.
    """

    def __init__(
        self,
        data_dir: Path,
        port: int | None = None,
        *,
        advertised: str | None = None,
        options: Mapping[str, str] | None = None,
        heap: str = "1g",
        detached: bool = False,
    ) -> None:
        self.data_dir = Path(data_dir).absolute()
        self.port = port or process.free_port()
        self.bootstrap = f"127.0.0.1:{self.port}"
        self.log = self.data_dir / "kafka.log"
        self.pid_file = self.data_dir / "kafka.pid"
        self._controller_port = process.free_port()
        self._advertised = advertised or self.bootstrap
        self._options = dict(options or {})
        self._heap = heap
        self._detached = detached
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "LocalKafka":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        """The broker's process, None when it does not run."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if running and self._process else None

    def start(self, timeout: float = 60.0) -> None:
        """Start the broker and wait until it answers."""
        if self.pid is not None:
            return
        if other := running(self.data_dir):
            raise CommandError(
                f"a Kafka already runs on {self.data_dir} at {other[1]} (process {other[0]}): "
                "use that address, or stop it first with `streamgauge kafka stop`"
            )
        jars = install()
        config = self._configure()
        if not (self.data_dir / "data" / "meta.properties").exists():
            self._format(jars, config)
        command = [*self._java(jars, f"-Xmx{self._heap}"), "kafka.Kafka", str(config)]
        self._process = process.spawn(command, log=self.log, detached=self._detached)
        self.pid_file.write_text(f"{self._process.pid} {self.bootstrap}\n")
        self._await_answer(timeout)

    def stop(self, timeout: float = 30.0) -> None:
        """Stop the broker in good order."""
        if self._process is not None:
            process.stop(self._process, timeout)
        self._forget()

    def kill(self) -> None:
        """End the broker as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._forget()

    def restart(self, *, hard: bool = False) -> None:
        """Bounce the broker, cleanly or (`hard`) by SIGKILL; address and data stay."""
        if hard:
            self.kill()
        else:
            self.stop()
        self.start()

    def _forget(self) -> None:
        self._process = None
        self.pid_file.unlink(missing_ok=True)

    def _configure(self) -> Path:
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller_port}",
            "listeners": f"PLAINTEXT://{self.bootstrap},"
            f"CONTROLLER://127.0.0.1:{self._controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self._advertised}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.data_dir / "data"),
            "num.partitions": "4",
            # Our topics carry their own retention; nobody else's should vanish either.
            "log.retention.ms": "-1",
            "num.io.threads": "4",
            # After a crash the broker's old session must end before it may register again.
            "broker.session.timeout.ms": "4000",
            "broker.heartbeat.interval.ms": "500",
            "group.initial.rebalance.delay.ms": "0",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            **self._options,
        }
        self.data_dir.mkdir(parents=True, exist_ok=True)
        path = self.data_dir / "server.properties"
        path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        return path

    def _java(self, jars: Path, *flags: str) -> list[str]:
        # Without a configuration of its own log4j writes errors to the console, which is the log.
        return [java(), *flags, "-Dlog4j2.level=WARN", "-cp", f"{jars}/*"]

    def _format(self, jars: Path, config: Path) -> None:
        command = self._java(jars, "-Xmx128m", "-XX:TieredStopAtLevel=1")
        command += ["kafka.tools.StorageTool", "format", "--config", str(config)]
        done = subprocess.run(
            [*command, "--cluster-id", _cluster_id()], capture_output=True, text=True
        )
        if done.returncode:
            raise CommandError(f"Kafka could not format {self.data_dir}: {done.stderr.strip()}")

    def _await_answer(self, timeout: float) -> None:
        assert self._process is not None
        deadline = time.monotonic() + timeout
        # Its own listener, not the advertised one: a proxy may not be up yet.
        while not _listens(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise CommandError(
                    f"Kafka did not start, see {self.log}:\n{process.tail(self.log)}"
                )
            time.sleep(0.05)
        client = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        while True:
            try:
                client.list_topics(timeout=2)
                return
            except KafkaException as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.kill()
                    raise CommandError(
                        f"Kafka does not answer at {self.bootstrap}: {error}; see {self.log}:\n"
                        f"{process.tail(self.log)}"
                    ) from error


def running(data_dir: Path) -> tuple[int, str] | None:
    """(process, address) of the broker that runs on `data_dir`, None when none does."""
    try:
        pid, address = (data_dir / "kafka.pid").read_text().split()
        command = Path(f"/proc/{pid}/cmdline")
        if Path("/proc").exists() and b"kafka.Kafka" not in command.read_bytes():
            return None
        os.kill(int(pid), 0)
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return None
    return int(pid), address


def install() -> Path:
    """The folder with the broker's jars, fetched by Maven the first time (126 MB, 15 s)."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "streamgauge"
    target = home / f"kafka-{VERSION}"
    if target.exists():
        return target
    if shutil.which("mvn") is None:
        raise MissingRequirementError(f"the local Kafka needs Maven to fetch its jars: {_GET_JAVA}")
    home.mkdir(parents=True, exist_ok=True)
    with _locked(home / "kafka.lock"):
        if target.exists():  # somebody else fetched them while we waited
            return target
        fetched = Path(tempfile.mkdtemp(prefix=f"kafka-{VERSION}-", dir=home))
        command = ["mvn", "-q", "-B", "-f", str(_POM), "dependency:copy-dependencies"]
        command += [f"-DoutputDirectory={fetched}", "-DincludeScope=runtime"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            shutil.rmtree(fetched)
            raise CommandError(
                f"Maven could not fetch Apache Kafka {VERSION}: is its repository reachable?\n"
                f"{(done.stdout or done.stderr).strip()[-1000:]}"
            )
        fetched.rename(target)
    return target


def java() -> str:
    """The `java` to run the broker with."""
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=f"{home}/bin") if home else None
    found = found or shutil.which("java")
    if found is None:
        raise MissingRequirementError(f"the local Kafka needs Java: {_GET_JAVA}")
    return found


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _cluster_id() -> str:
    # 16 bytes; the fixed first one keeps the text from starting with "-", which reads as a flag.
    return base64.urlsafe_b64encode(b"S" + os.urandom(15)).rstrip(b"=").decode()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0
