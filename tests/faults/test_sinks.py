"""What happens between Kafka and a sink's target: kills, slowness, a fail-over, a full disk."""

import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import redis

from streamgauge.cli.stack.postgres import LocalPostgres
from streamgauge.cli.stack.proxy import Proxy
from streamgauge.cli.stack.redis import LocalRedis
from tests.faults.sinking import until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]


@pytest.mark.parametrize("kind", ["postgres", "redis", "archive"])
def test_killed_before_in_and_after_its_commit_it_loses_nothing_and_doubles_nothing(sinking, kind):
    target, expected = sinking(kind), {}
    for number, point in enumerate(("before_write", "before_commit", "after_commit")):
        rows = {f"{point}-{i}": number for i in range(3)}
        target.commit(rows)
        expected |= rows
        killed = target.start(point, FAULTPOINT=f"sink_{point}:1:kill")
        assert killed.wait(180) == -signal.SIGKILL, target.log(point)
    target.start("last")
    until(lambda: target.holds(expected), says=lambda: target.log("last"))


class Pair:
    """A primary and its replica behind one address; `fail_over` leaves the older data."""

    def __init__(self, kind: str, primary, replica) -> None:
        self.kind, self.primary, self.replica = kind, primary, replica
        self.proxy = Proxy("127.0.0.1", primary.port)
        self.proxy.start()

    def address(self, server) -> str:
        return server.dsn if self.kind == "postgres" else server.url

    @property
    def target(self) -> str:
        address = self.address(self.primary)
        return address.replace(str(self.primary.port), str(self.proxy.port))

    def stop_replicating(self) -> None:
        if self.kind == "redis":
            redis.Redis(port=self.replica.port).replicaof("NO", "ONE")
            return
        with psycopg.connect(self.replica.dsn, autocommit=True) as connection:
            connection.execute("ALTER SYSTEM SET primary_conninfo = ''")
            connection.execute("SELECT pg_reload_conf()")
            receiving = "SELECT 1 FROM pg_stat_wal_receiver"
            until(lambda: connection.execute(receiving).fetchone() is None)

    def fail_over(self) -> None:
        self.primary.kill()
        self.proxy.stop()
        if self.kind == "postgres":
            with psycopg.connect(self.replica.dsn, autocommit=True) as connection:
                connection.execute("SELECT pg_promote()")
        self.proxy = Proxy("127.0.0.1", self.replica.port, self.proxy.port)
        self.proxy.start()


@pytest.fixture
def pair(request, kind, server_dir) -> Iterator[Pair]:
    if kind == "redis":
        primary, replica = LocalRedis(server_dir / "first"), LocalRedis(server_dir / "second")
        with primary, replica:
            redis.Redis(port=replica.port).replicaof("127.0.0.1", primary.port)
            yield from _closed(Pair(kind, primary, replica))
        return
    with LocalPostgres(server_dir / "first") as primary, _standby(primary, server_dir) as replica:
        yield from _closed(Pair(kind, primary, replica))


def _closed(pair: Pair) -> Iterator[Pair]:
    yield pair
    pair.proxy.stop()


@contextmanager
def _standby(primary: LocalPostgres, folder: Path) -> Iterator[LocalPostgres]:
    copy = Path(primary.prepare()[0]).with_name("pg_basebackup")
    replica = LocalPostgres(folder / "second")
    replica.data_dir.mkdir()
    replica.data_dir.chmod(0o777)
    command = f"{copy} -h 127.0.0.1 -p {primary.port} -U postgres -R -c fast -D second/data"
    subprocess.run(command.split(), check=True, user=primary.user, cwd=folder)
    with replica:
        yield replica


@pytest.mark.parametrize("kind", ["postgres", "redis"])
def test_after_a_fail_over_to_older_data_what_it_lacks_is_written_again(sinking, pair, kind):
    #  primary   a=1 |          a=2 b=2 | killed
    #  replica   a=1 | no more            promoted | a=2 b=2 again | c=3
    target = sinking(kind, pair.target)
    target.start("sink")
    target.commit({"a": 1})
    target.reads_at = pair.address(pair.replica)
    until(lambda: target.holds({"a": 1}), says=lambda: target.log("sink"))
    pair.stop_replicating()
    target.commit({"a": 2, "b": 2})
    target.reads_at = pair.address(pair.primary)
    until(lambda: target.holds({"a": 2, "b": 2}), says=lambda: target.log("sink"))
    target.reads_at = pair.address(pair.replica)
    assert target.holds({"a": 1})
    pair.fail_over()
    until(lambda: target.holds({"a": 2, "b": 2}), says=lambda: target.log("sink"))
    target.commit({"c": 3})
    until(lambda: target.holds({"a": 2, "b": 2, "c": 3}), says=lambda: target.log("sink"))


@pytest.mark.parametrize("kind", ["postgres", "redis"])
def test_a_slow_target_and_one_that_goes_silent_get_everything(sinking, request, kind):
    #  target  ──200 ms a piece──|silent 5 s|──
    port = {
        "postgres": lambda: psycopg.conninfo.conninfo_to_dict(request.getfixturevalue("postgres")),
        "redis": lambda: redis.connection.parse_url(request.getfixturevalue("redis_url")),
    }[kind]()["port"]
    with Proxy("127.0.0.1", int(port)) as proxy:
        address = request.getfixturevalue("postgres" if kind == "postgres" else "redis_url")
        target = sinking(kind, address.replace(str(port), str(proxy.port)))
        target.reads_at = address
        target.start("sink")
        rows = [{f"p{i}": value for i in range(100)} for value in (1, 2, 3)]
        target.commit(rows[0])
        until(lambda: target.holds(rows[0]), says=lambda: target.log("sink"))
        proxy.delay(0.2)
        target.commit(rows[1])
        until(lambda: target.holds(rows[1]), says=lambda: target.log("sink"))
        proxy.cut()
        target.commit(rows[2])
        time.sleep(5)
        assert target.holds(rows[1])
        proxy.delay(0)
        proxy.restore(lost=True)
        until(lambda: target.holds(rows[2]), says=lambda: target.log("sink"))


def test_a_full_disk_pauses_the_archive_until_there_is_room(sinking, tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    with _small_disk(folder) as resize:
        target = sinking("archive", str(folder))
        target.start("sink")
        target.commit({"first": 1})
        until(lambda: target.holds({"first": 1}), says=lambda: target.log("sink"))
        rows = {f"{i}-" + "x" * 30: i for i in range(20_000)}
        target.commit(rows)
        until(lambda: "No space left" in target.log("sink"), says=lambda: target.log("sink"))
        resize("16m")
        until(lambda: target.holds({"first": 1, **rows}), says=lambda: target.log("sink"))


@contextmanager
def _small_disk(folder: Path):
    command = ["mount", "-t", "tmpfs", "-o", "size=128k", "none", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mounting a small disk is not allowed here: {done.stderr.strip()}")

    def resize(size: str) -> None:
        subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)

    try:
        yield resize
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
