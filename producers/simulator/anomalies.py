"""What goes wrong in the simulated world, in known intervals.

Upstream: the span to spread them over. Downstream: `world.py` applies them to its events,
`truth.py` writes them down. Invariant: outside `[start_ms, end_ms)` an anomaly changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal

Kind = Literal["spike", "drop", "errors", "slow", "bot"]


@dataclass(kw_only=True)
class Anomaly:
    """One interval in which events differ; `affected` counts those that did.

    spike: events of the type come `factor` times as often; drop: only the share `factor` of
    them comes; errors: the share `factor` of requests fails; slow: durations are multiplied
    by `factor`; bot: `user_id` views a page every `factor` milliseconds.
    """

    kind: Kind
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

    def at(share: float) -> int:
        return start_ms + int((end_ms - start_ms) * share)

    def one(kind: Kind, event_type: str, factor: float, begin: float, end: float) -> Anomaly:
        return Anomaly(
            kind=kind, event_type=event_type, factor=factor, start_ms=at(begin), end_ms=at(end)
        )

    bot = one("bot", "page_view", 0, 0.80, 0.85)
    bot.user_id = "user-bot"
    bot.factor = max(50.0, (bot.end_ms - bot.start_ms) / max(1.0, events * 0.005))
    return [
        one("spike", "page_view", 4, 0.30, 0.33),
        one("drop", "request", 0.1, 0.45, 0.48),
        one("errors", "request", 0.4, 0.60, 0.63),
        one("slow", "request", 6, 0.70, 0.73),
        bot,
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
