"""The records between the two stages of the metrics, and their changelogs.

Internal to the worker: partials go from `streams.metrics.source` to `streams.metrics.merge` over
the topic `metric-partials`; the sketches (`metric-users`) and roll-ups (`metric-rollups`) are the
changelogs of those stages. What leaves the worker is `records.MetricUpdate`.

Invariants: values are absolute, so the last row of a key is the truth; `parts` are packed as
`streams/metrics/parts.py` says, and hold only what was observed.
"""

from __future__ import annotations

from dataclasses import dataclass

from streamgauge.schemas.records import Time


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricPartial:
    """What one source partition knows.

    window_size "1m": a minute's parts; "1h" or "1d": its distinct users so far; None: its
    watermark, written to every partition of the topic.
    """

    source_partition: int
    window_size: str | None
    window_start: Time | None
    version: str | None
    dimensions: str | None
    parts: bytes | None
    users: int | None
    watermark: Time | None
    since: str | None
    """In watermark rows: where grain versions began, as JSON {version: event time}, if any did
    not begin with the partition."""


@dataclass(frozen=True, kw_only=True, slots=True)
class UserSketch:
    """What the source stage cannot rebuild by reading a few hours of events again.

    Either the distinct users of one hour or day in one source partition, as an HLL of
    datasketches; or (with event_id) an accepted event whose id came again with another
    timestamp: its duplicates may be read again when it is not.
    """

    source_partition: int
    window_size: str | None
    window_start: Time | None
    version: str | None
    dimensions: str | None
    sketch: bytes | None
    event_id: str | None
    timestamp: Time | None
    offset: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricRollup:
    """One hour or day, added up from closed minutes; distinct users by source partition."""

    window_size: str
    window_start: Time
    version: str
    dimensions: str
    parts: bytes
    users: str
    """JSON {source partition: distinct users}."""
