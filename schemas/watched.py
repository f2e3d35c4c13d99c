"""Which series are watched for anomalies: metrics that say so, and those that alerts name.

Upstream: `metrics.py`, `alerts.py`. Downstream: the worker's points of `anomaly-points`, and
`verify`. Invariant: what is watched are definitions like others, by the minute only.
"""

from __future__ import annotations

from collections.abc import Iterable

from streamgauge.schemas.alerts import Alert
from streamgauge.schemas.metric_definition import MetricDefinition
from streamgauge.schemas.metrics import Definitions

SETTLE_MS = 60_000
"""How long after its end a minute waits for events, in the time of its source partition."""

COUNTED = ("count", "sum", "distinct_users")
"""Aggregates for which a minute without events is a zero; of the others it has no value."""


def watched(definitions: Definitions, alerts: Iterable[Alert] = ()) -> Definitions:
    """The watched breakdowns of the metrics that have any."""
    named = {alert.metric for alert in alerts}
    total = {series.metric for series in definitions.series() if series.name in named}
    found = []
    for metric in definitions.metrics:
        if breakdowns := _breakdowns(metric, metric.name in total):
            by = {"by": breakdowns, "dimensions": None, "windows": ("1m",)}
            found.append(metric.model_copy(update=by))
    return Definitions(tuple(found))


def _breakdowns(metric: MetricDefinition, total: bool) -> tuple[tuple[str, ...], ...]:
    return tuple(dict.fromkeys(((),) * total + metric.watched))
