"""What can go wrong with events, schemas and topics; every message says what to do.

StreamgaugeError
├── InvalidEvent         an event that its type does not accept (a stable reason code)
├── UndecodableRecord    bytes that are no record of a known schema (a stable reason code)
└── SchemaError          a schema that cannot be used as it is: fix it, retrying is no help
    ├── IncompatibleSchema   it would break readers of what is already written
    └── UnknownSchema        no schema has this id or name
RegistryError            the registry did not answer; `retryable` says whether to try again
TopicError               topics could not be created or are not laid out as they must be
WorkError                a worker is asked to run what there is not
(the last three are StreamgaugeErrors as well)
"""

from __future__ import annotations

from collections.abc import Sequence


class StreamgaugeError(Exception):
    """Anything this package raises on purpose."""

    retryable = False


class InvalidEvent(StreamgaugeError, ValueError):
    """An event that its type does not accept.

    `reason` is a stable code: not_an_object, unknown_type, unknown_field, conflicting_field,
    missing_field, missing_user, wrong_value, out_of_range. `keep` is false where it is not to
    be kept as a dead letter: it is of a type that is refused at the door.
    """

    def __init__(self, reason: str, field: str | None, message: str, *, keep: bool = True) -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.keep = keep
        self.reason = reason
        self.field = field
        self.message = message


class UndecodableRecord(StreamgaugeError, ValueError):
    """Bytes that are no record: `reason` is bad_header, unknown_schema or undecodable."""

    def __init__(self, reason: str, detail: str, schema_id: int | None = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail
        self.schema_id = schema_id


class SchemaError(StreamgaugeError):
    """A schema or an event class that cannot be used as it is."""


class IncompatibleSchema(SchemaError):
    """Readers with the new schema could not read what the old one wrote."""

    def __init__(self, subject: str, problems: Sequence[str]) -> None:
        super().__init__(
            f"{subject}: the new schema cannot read records of the registered one: "
            + "; ".join(problems)
            + ". Give new fields a default and keep the types of old ones, or use a new name."
        )
        self.subject = subject
        self.problems = tuple(problems)


class UnknownSchema(SchemaError):
    """The registry has no such schema."""


class RegistryError(StreamgaugeError):
    """The registry could not be reached or refused to answer."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class TopicError(StreamgaugeError):
    """Topics could not be created, or exist with another layout than they need."""


class WorkError(StreamgaugeError, ValueError):
    """No agent and no class of work has this name."""
