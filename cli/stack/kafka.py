"""A real Apache Kafka without containers: one KRaft node from Maven's jars, on free ports.

Upstream: `streamgauge kafka start`, `--kafka local` and the tests. Downstream: a `java` process
whose data, configuration and log lie in one folder; a broker started there again finds its data.
"""

import base64
import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from streamgauge.cli.errors import CommandError, MissingRequirementError
from streamgauge.cli.stack import process
from streamgauge.cli.stack.server import Server

VERSION = "4.3.1"
_POM = Path(__file__).with_name("kafka-pom.xml")
_GET_JAVA = (
    "install Java 17 or later and Maven (Debian/Ubuntu: apt-get install default-jre-headless "
    "maven; macOS: brew install openjdk maven), or give the address of a Kafka that runs"
)


class LocalKafka(Server):
    """One broker over `data_dir`; `bootstrap` is its address, the same after a restart.

    `advertised` is the address given to clients instead, for a proxy in between. `options` are
    broker settings laid over the defaults. A `detached` broker outlives the process that started
    it and is found again by `running`.
    """

    name = "Kafka"

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
        super().__init__(data_dir, port, detached=detached)
        self.bootstrap = self.address
        self._controller_port = process.free_port()
        self._advertised = advertised or self.bootstrap
        self._options = dict(options or {})
        self._heap = heap

    def launch(self) -> None:
        """Start the process; refused where another broker has the folder."""
        if self.pid is None and (other := running(self.data_dir)):
            raise CommandError(
                f"a Kafka already runs on {self.data_dir} at {other[1]} (process {other[0]}): "
                "use that address, or stop it first with `streamgauge kafka stop`"
            )
        super().launch()
        (self.data_dir / "kafka.pid").write_text(f"{self.pid} {self.bootstrap}\n")

    def prepare(self) -> list[str]:
        """Write the configuration, format the data folder once; returns the command."""
        jars = install()
        config = self.data_dir / "server.properties"
        config.write_text("".join(f"{key}={value}\n" for key, value in self._settings().items()))
        if not (self.data_dir / "data" / "meta.properties").exists():
            command = self._java(jars, "-Xmx128m", "-XX:TieredStopAtLevel=1")
            command += ["kafka.tools.StorageTool", "format", "--config", str(config)]
            command += ["--cluster-id", _cluster_id()]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise CommandError(f"Kafka could not format {self.data_dir}: {done.stderr.strip()}")
        return [*self._java(jars, f"-Xmx{self._heap}"), "kafka.Kafka", str(config)]

    def answers(self) -> bool:
        """Whether the broker tells a client about its topics."""
        # Its own listener first: behind a proxy the advertised one need not be up yet.
        if not process.listens(self.port):
            return False
        try:
            client = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
            client.list_topics(timeout=2)
        except KafkaException:
            return False
        return True

    def _settings(self) -> dict[str, str]:
        controller = f"127.0.0.1:{self._controller_port}"
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{controller}",
            "controller.listener.names": "CONTROLLER",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self._advertised}",
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

    def _java(self, jars: Path, *flags: str) -> list[str]:
        # Without a configuration of its own log4j writes to the console, which is the log.
        return [java(), *flags, "-Dlog4j2.level=WARN", "-cp", f"{jars}/*"]


def running(data_dir: Path) -> tuple[int, str] | None:
    """(process, address) of the broker that runs on `data_dir`, None when none does."""
    try:
        pid, address = (data_dir / "kafka.pid").read_text().split()
        os.kill(int(pid), 0)
        command = Path(f"/proc/{pid}/cmdline")
        if Path("/proc").exists() and b"kafka.Kafka" not in command.read_bytes():
            return None  # somebody else's by now
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
