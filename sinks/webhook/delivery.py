"""Deliveries: what a webhook is to be sent, made of the words about flags.

Upstream: decoded batches of `anomalies`, policies. Downstream: `sink.py` sends them. Pure.

Invariants: what is sent follows from one record and the policies alone, so it is the same whenever
it is sent again, and so is its key; words are in the order of the log.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl

from streamgauge.schemas.alerts import Policies
from streamgauge.schemas.webhooks import Webhook, told_of

TOLD = (
    *("anomaly_id", "version", "detector", "severity", "user_id", "series", "metric"),
    *("dimensions", "started_at", "ended_at", "expected", "observed", "score", "points"),
)


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One request; `key` is the same whenever it is made again."""

    event: str
    key: str
    body: bytes
    topic: str
    partition: int
    offset: int
    written_at: int
    """ms; when its record was appended to the topic."""


def of_words(frame: pl.DataFrame, webhook: Webhook, policies: Policies) -> Iterator[Delivery]:
    """Of the words about flags in a batch those that policies have the webhook told of."""
    for word in frame.sort("partition", "offset").iter_rows(named=True):
        if word["user_id"] is not None and word["user_id"] in policies.except_users:
            continue
        if told_of(webhook.name, policies.policies, word["detector"], word["severity"]):
            event = event_of(word)
            yield Delivery(
                event=event,
                key=f"{word['anomaly_id']}-{word['version']}",
                body=body({"event": event, **told(word)}),
                topic="anomalies",
                partition=word["partition"],
                offset=word["offset"],
                written_at=word["append_time"],
            )


def event_of(word: Mapping[str, Any]) -> str:
    """Opened, worse or cleared."""
    if word["is_final"]:
        return "anomaly_cleared"
    return "anomaly_opened" if word["version"] <= 1 else "anomaly_worse"


def told(word: Mapping[str, Any]) -> dict[str, Any]:
    """A word as a receiver reads it."""
    row = {name: word[name] for name in TOLD}
    row["dimensions"] = json.loads(row["dimensions"]) if row["dimensions"] else None
    return row | {name: _iso(row[name]) for name in ("started_at", "ended_at")}


def body(document: Mapping[str, Any]) -> bytes:
    """As it is sent, and signed."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _iso(time_ms: int | None) -> str | None:
    return None if time_ms is None else datetime.fromtimestamp(time_ms / 1000, UTC).isoformat()
