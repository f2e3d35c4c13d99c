"""What can stop a verification before it has an answer: the message says what to do."""

from streamgauge.cli.errors import CommandError


class VerifyError(CommandError):
    """The comparison cannot be made; differences are no error, they are the report."""


class CutNotCoveredError(VerifyError):
    """The topic or the archive no longer holds, or does not yet hold, every record of the cut."""


class NotReachedError(VerifyError):
    """The worker or a sink did not pass the cut within the time allowed."""
