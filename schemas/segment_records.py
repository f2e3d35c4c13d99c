"""The records that segments write: moves with their reasons, rules in force, counts.

Upstream: `streams.segments`. Downstream: sinks, `verify`, the CLI, and the worker itself after a
restart, for the topic `user-segments` is its changelog.

Invariants: a stay is half-open, `[entered_at, left_at)`; a user's key is `user|segment`, so what is
left after compaction is the last stay of each.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamgauge.schemas.records import Time


@dataclass(frozen=True, kw_only=True, slots=True)
class UserSegment:
    """A user enters a segment (`left_at` is null) or leaves it."""

    user_id: str
    segment: str
    entered_at: Time
    left_at: Time | None
    reason_in: str | None
    """JSON: the values of the fields in the rule when the user entered; null where the user leaves.
    `change` is `rule v3` where not the values but a change of the rules caused it."""
    reason_out: str | None
    """The same for leaving."""
    rule_version: str
    """Hash of the segment's conditions."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentRules:
    """The rules in force in a source partition; internal to the worker, under the key `rules`."""

    rules_version: int
    """Of the control; 0: those that the worker was started with."""
    rules_body: str
    """JSON, as a control carries it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentCount:
    """How many of a source partition's users are in a segment at a full hour."""

    segment: str
    at: Time
    members: int
