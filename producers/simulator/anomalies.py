"""What goes wrong in the simulated world, in known intervals.

Upstream: the span to spread them over. Downstream: `world.py` applies them to its events,
`truth.py` writes them down. Invariant: outside `[start_ms, end_ms)` an anomaly changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal


@dataclass(kw_only=True)
class Anomaly:
    """One interval in which events differ; `affected` counts those that did.

    spike: events of the type come `factor` times as often; drop: only the share `factor` of
    them comes; errors: the share `factor` of requests fails; slow: durations are multiplied
    by `factor`; bot: `user_id` views a page every `factor` milliseconds.
    """

    kind: Literal["spike", "drop", "errors", "slow", "bot"]
    start_ms: int
    end_ms: int
    event_type: str
    factor: float
    user_id: str | None = None
    affected: int = 0

    def apply(self, random: Random, event: dict[str, Any]) -> list[dict[str, Any]]:
        """What comes instead of the event: nothing, itself (changed), or more."""
        if event["event_type"] != self.event_type or self.kind == "bot":
            return [event]
        if self.kind == "drop":
            if random.random() < self.factor:
                return [event]
            self.affected += 1
            return []
        if self.kind == "errors":
            if random.random() < self.factor:
                self.affected += 1
                event["status"] = random.choice((500, 502, 503))
                event["error_type"] = "upstream"
            return [event]
        self.affected += 1
        if self.kind == "slow":
            event["duration_ms"] = round(event["duration_ms"] * self.factor, 1)
            return [event]
        more = [dict(event) for _ in range(int(self.factor) - 1)]
        return [event, *more]


def default_anomalies(start_ms: int, end_ms: int, events: float) -> list[Anomaly]:
    """One of each kind, spread over the span; the bot makes about 0.5 % of the events."""

    def between(begin: float, end: float) -> dict[str, int]:
        span = end_ms - start_ms
        return {"start_ms": start_ms + int(span * begin), "end_ms": start_ms + int(span * end)}

    bot = between(0.80, 0.85)
    gap = max(50.0, (bot["end_ms"] - bot["start_ms"]) / max(1.0, events * 0.005))
    request = "request"
    return [
        Anomaly(kind="spike", event_type="page_view", factor=4, **between(0.30, 0.33)),
        Anomaly(kind="drop", event_type=request, factor=0.1, **between(0.45, 0.48)),
        Anomaly(kind="errors", event_type=request, factor=0.4, **between(0.60, 0.63)),
        Anomaly(kind="slow", event_type=request, factor=6, **between(0.70, 0.73)),
        Anomaly(kind="bot", event_type="page_view", factor=gap, user_id="user-bot", **bot),
    ]


def bot_views(anomaly: Anomaly) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """The bot's page views: too regular, too many, for too long."""
    now = float(anomaly.start_ms)
    while now < anomaly.end_ms:
        anomaly.affected += 1
        yield int(now), anomaly.event_type, {"page_url": "/pricing", "title": "pricing"}
        now += anomaly.factor


def apply_all(
    anomalies: Sequence[Anomaly], random: Random, event: dict[str, Any]
) -> list[dict[str, Any]]:
    """The event after all anomalies of its time."""
    events = [event]
    for anomaly in anomalies:
        if anomaly.start_ms <= event["timestamp"] < anomaly.end_ms:
            events = [after for before in events for after in anomaly.apply(random, before)]
    return events
