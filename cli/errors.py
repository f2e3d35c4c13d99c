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
