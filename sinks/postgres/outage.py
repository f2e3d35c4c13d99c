"""Postgres' errors in the sinks' terms: what is an outage, and what a person must mend."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors
from sqlalchemy.exc import DBAPIError

from streamgauge.sinks.errors import Fatal, Retryable

# Operational as far as SQLSTATE says, and yet nothing that waiting mends.
_WRONG = (errors.InvalidPassword, errors.InvalidAuthorizationSpecification)

# An outage; a standby that was not promoted yet; a range that retention dropped under a write.
_PASSES = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    errors.ReadOnlySqlTransaction,
    errors.CheckViolation,
)


@contextmanager
def failures() -> Iterator[None]:
    """Raise `Retryable` or `Fatal` in place of what psycopg and SQLAlchemy raise."""
    try:
        yield
    except psycopg.Error as error:
        raise _translated(error) from error
    except DBAPIError as error:
        original = error.orig
        if not isinstance(original, psycopg.Error):
            raise
        raise _translated(original) from error


def _translated(error: psycopg.Error) -> Retryable | Fatal:
    text = str(error).strip()
    if isinstance(error, _WRONG):
        return Fatal(f"Postgres refused the login: {text}. Correct the address or the password.")
    if isinstance(error, _PASSES):
        return Retryable(f"Postgres: {text}")
    if isinstance(error, errors.UndefinedTable | errors.UndefinedColumn):
        return Fatal(f"{text}. The tables are missing or older than this version: migrate first.")
    if isinstance(error, errors.InsufficientPrivilege):
        return Fatal(f"{text}. Grant it to the sink's user; it needs its schema and TEMP.")
    return Fatal(f"Postgres refused a statement ({type(error).__name__}): {text}")
