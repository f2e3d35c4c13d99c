"""The embedded Postgres: its data survive a crash, and it ends with open connections."""

from pathlib import Path

import psycopg
import pytest

from streamgauge.cli.stack.postgres import LocalPostgres

pytestmark = pytest.mark.postgres


def test_data_survive_a_crash_and_open_clients_do_not_hold_up_the_stop(server_dir: Path) -> None:
    with LocalPostgres(server_dir / "postgres") as server:
        with psycopg.connect(server.dsn) as connection:
            connection.execute("CREATE TABLE notes AS SELECT 'one' AS text")
        server.restart(hard=True)
        connection = psycopg.connect(server.dsn)
        assert connection.execute("SELECT text FROM notes").fetchall() == [("one",)]
        server.stop(timeout=5)
        assert server.pid is None
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
