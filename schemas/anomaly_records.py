"""The records of anomalies: points, flags, and the detectors' memory.

`anomaly-points` goes from `streams.anomalies.points` to `streams.anomalies.watch`, which writes
`anomalies` and keeps its memory in `anomaly-state`.

Invariants: values are absolute, so the last row of a key is the truth; a row of `anomaly-points`
never changes; `parts` are packed as `streams/metrics/parts.py` says.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamgauge.schemas.records import Time


@dataclass(frozen=True, kw_only=True, slots=True)
class AnomalyPoint:
    """What one source partition adds to a minute; or, without a start, how far it is.

    Only events that came before the partition's watermark was `settle` past the minute's end.
    """

    source_partition: int
    version: str
    """Of the grain."""
    window_start: Time | None
    dimensions: str | None
    parts: bytes | None
    since: Time | None
    """In rows of progress: minutes that begin here or later, up to `done`, have all been written;
    null from the partition's first one."""
    done: Time | None
    """The end of the last minute that is done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Anomaly:
    """A flag: what a detector says of a series, or of a user, from when to when."""

    anomaly_id: str
    series: str
    """metric, or metric{dimensions}; of a user: user."""
    metric: str | None
    dimensions: str | None
    user_id: str | None
    detector: str
    severity: str
    """yellow, red."""
    started_at: Time
    ended_at: Time | None
    """Null while it lasts."""
    expected: float | None
    observed: float | None
    score: float
    points: int
    """Minutes from the beginning to this word."""
    version: int
    """How many words there were about it: opened, worse, cleared."""
    is_final: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """What is done about a flag of a user while it lasts, by policy; in force until it has ended or
    was undone."""

    action: str
    """throttle, exclude."""
    user_id: str
    anomaly_id: str
    detector: str
    severity: str
    rate: float | None
    """Events a minute that are let in; 0: none. Null where the action is another."""
    started_at: Time
    ended_at: Time | None
    undone_at: Time | None
    """By the clock of whoever undid it."""
    undone_by: str | None
    note: str | None
    excluded_from: Time | None = None
    """Of `exclude`: the first event time that counts in no metric and no experiment."""
    excluded_until: Time | None = None
    """The first one that counts again; null while it lasts."""
    partition: int | None = None
    """Of `exclude`: the partition of `events` that the user is in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AnomalyState:
    """The detectors' memory of one series, or a flag of a user that stands; without a series, the
    points of a minute; without a minute, how far a partition is."""

    series: str | None
    next_minute: Time | None
    """Minutes before it are in the memory; or the points' minute."""
    state: bytes
    """JSON; a memory is compressed."""
