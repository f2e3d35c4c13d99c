"""What can go wrong in the engine, and what the engine does about it.

EngineError
├── Unsupported        a Faust feature that this engine replaces; says by what
├── Rollback           the transaction was rolled back; everything is retried
├── Unwritable         the broker refuses a row, and would again; its input is narrowed down
├── Fenced             another worker has this transactional id; the process ends
└── Poisoned           too many records in a row could not be processed; the process ends
"""


class EngineError(Exception):
    """Base of the engine's errors."""


class Unsupported(EngineError):
    """A Faust feature that this engine replaces; the message names the replacement."""


class Rollback(EngineError):
    """The transaction was not committed; its input is read again."""


class Unwritable(EngineError):
    """The broker refuses a row for what it is, most likely its size (max.message.bytes)."""


class Fenced(EngineError):
    """A newer producer has our transactional id; nothing of ours can be committed any more."""


class Poisoned(EngineError):
    """The agents fail on one record after another: most likely the code is wrong, not the data."""
