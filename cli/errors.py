"""What can go wrong at the command line, as one tree: each error's message names the fix, and
its exit code is part of the interface.

- `CommandError` (1): the command ran and found a difference or failed.
  - `UnreachableError` (3): a server (Kafka, Postgres, Redis, the registry) does not answer.
  - `MissingRequirementError` (4): something that must be installed is not.

Wrong usage, a wrong setting included, is click's own `UsageError` (2).
"""

import click

OK = 0
FAILED = 1
USAGE = 2
UNREACHABLE = 3
MISSING = 4


class CommandError(click.ClickException):
    """The command ran and failed; the message says what to do."""

    exit_code = FAILED


class UnreachableError(CommandError):
    """A server does not answer."""

    exit_code = UNREACHABLE


class MissingRequirementError(CommandError):
    """Something the command needs is not installed."""

    exit_code = MISSING


def explain(error: Exception) -> click.ClickException | None:
    """An expected error as one for the command line, None for a bug (which shows its traceback)."""
    if isinstance(error, click.ClickException):
        return error
    from streamgauge.schemas.errors import StreamgaugeError  # late, for the sake of `--help`

    if isinstance(error, StreamgaugeError):
        return CommandError(str(error))
    # Told by their module, so as not to import the three of them.
    library = type(error).__module__.partition(".")[0]
    if library in ("confluent_kafka", "cimpl"):
        return UnreachableError(f"Kafka: {_kafka_reason(error)}; check --kafka, is it running?")
    if library == "psycopg" and type(error).__name__ == "OperationalError":
        return UnreachableError(f"Postgres: {error}; check --postgres, is it running?")
    if library == "redis" and type(error).__name__ in ("ConnectionError", "TimeoutError"):
        return UnreachableError(f"Redis: {error}; check --redis, is it running?")
    return None


def _kafka_reason(error: Exception) -> str:
    reason = error.args[0] if error.args else error
    return reason.str() if hasattr(reason, "str") else str(reason)
