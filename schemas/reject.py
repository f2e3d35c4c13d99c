"""A record that could not be used, as a value: where it was, why, and its original bytes.

Upstream: decoding and the computations. Downstream: the topic `dead-letters`.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamgauge.schemas.records import DeadLetter


@dataclass(frozen=True, kw_only=True, slots=True)
class Reject:
    """`reason` is a stable code: bad_header, unknown_schema, undecodable, invalid, future,
    agent_failed, invalid_control. `topic` is without the namespace."""

    topic: str
    partition: int
    offset: int
    reason: str
    detail: str
    schema_id: int | None
    key: bytes | None
    payload: bytes | None
    append_time: int


def dead_letter(reject: Reject) -> DeadLetter:
    """The record that keeps it; the same for the same log, whenever it is read."""
    return DeadLetter(
        topic=reject.topic,
        partition=reject.partition,
        offset=reject.offset,
        schema_id=reject.schema_id,
        reason=reject.reason,
        detail=reject.detail,
        payload=reject.payload,
        key=reject.key,
        failed_at=reject.append_time,
    )
