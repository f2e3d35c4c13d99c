"""Postgres' errors in the sinks' terms."""

import psycopg
import pytest
from psycopg import errors
from sqlalchemy.exc import DBAPIError

from streamgauge.sinks.errors import Fatal, Retryable
from streamgauge.sinks.postgres.outage import failures


@pytest.mark.parametrize(
    "error",
    [
        psycopg.OperationalError("the connection is gone"),
        psycopg.InterfaceError("closed"),
        errors.AdminShutdown("restarting"),
        errors.DeadlockDetected("again"),
        errors.DiskFull("full"),
        errors.ReadOnlySqlTransaction("a standby"),
        DBAPIError("SELECT", (), errors.AdminShutdown("restarting")),
    ],
)
def test_what_passes_is_an_outage(error: Exception) -> None:
    with pytest.raises(Retryable), failures():
        raise error


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (errors.InvalidPassword("no"), "Correct the address"),
        (errors.UndefinedTable("metrics"), "migrate first"),
        (errors.InsufficientPrivilege("no"), "Grant it"),
        (errors.DatatypeMismatch("odd"), "DatatypeMismatch"),
    ],
)
def test_what_a_person_must_mend_says_how(error: Exception, advice: str) -> None:
    with pytest.raises(Fatal, match=advice), failures():
        raise error


def test_what_is_not_postgres_passes_through() -> None:
    with pytest.raises(DBAPIError), failures():
        raise DBAPIError("SELECT", (), ValueError("ours"))
