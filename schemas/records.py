"""The records that Streamgauge itself writes, beside events.

Upstream: the worker (late events, dead letters, ticks, metric rows) and the SDK's and sinks'
dead letters. Downstream: sinks, `verify`, the CLI. The Avro schemas are derived from these
classes (`avro.py`); there every field is nullable, so that whole frames can be encoded at once.

Invariants: times are int milliseconds since the epoch, UTC; windows are half-open
`[start, end)`; `metrics`, `values`, `numerators` and `denominators` run parallel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

TIME = "timestamp-millis"
"""Marks a field as a time: `Annotated[int, TIME]` becomes an Avro timestamp-millis."""

Time = Annotated[int, TIME]

MARKER_TIME = 1
"""ms; the timestamp of ticks that leave the watermark as it is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Tick:
    """Time passes in an idle partition of `events`: advances its watermark, is no event."""

    timestamp: Time
    control: str | None = None
    """A definition that takes effect here (`control.py`); its tick has no time: MARKER_TIME."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    """A definition that changes while workers run, or its end where the body is null."""

    kind: str
    """What it defines: `segments`, `experiment`."""
    name: str
    version: int
    body: str | None
    """JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DeadLetter:
    """A record that could not be used, with where it was, why, and its original bytes."""

    topic: str
    partition: int
    offset: int
    schema_id: int | None
    reason: str
    detail: str
    payload: bytes | None
    key: bytes | None
    failed_at: Time
    """LogAppendTime of the record, not the clock: a replay writes the same dead letter."""
    added: str | None = None
    """JSON: the fields that whoever took it in would have added to it; with the payload they are
    the event. Null of records."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LateEvent:
    """An event older than its partition's watermark allows, kept with its original bytes."""

    topic: str
    partition: int
    offset: int
    event_id: str
    event_type: str
    user_id: str | None
    timestamp: Time
    watermark: Time
    schema_id: int
    payload: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class MetricUpdate:
    """All metrics of one grain for one window and one combination of dimensions.

    Absolute values: the latest row of a key is the truth. value = numerator / denominator.
    """

    window_start: Time
    window_size: str
    dimensions: str
    version: str
    users: int | None
    is_final: bool
    watermark: Time
    metrics: tuple[str, ...]
    values: tuple[float, ...]
    numerators: tuple[float, ...]
    denominators: tuple[float, ...]
