"""Actions: what policies do about flags of users, beside telling of them.

Upstream: words about users (`users.py`), policies from the alert file; exclusions as `exclusion.py`
keeps them. Downstream: the topic `actions`, which the collector reads. Invariants: throttling
follows from one word alone, so nothing is remembered; it ends with its flag; a word that a flag got
worse puts it in force again if somebody undid it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl

from streamgauge.schemas.alerts import Policies
from streamgauge.schemas.encoder import Encoder
from streamgauge.schemas.topics import ACTIONS
from streamgauge.streams.engine.task import Output

THROTTLE = "throttle"
_ACTIONS: Mapping[str, Any] = {
    **dict.fromkeys(("action", "user_id", "anomaly_id", "detector", "severity"), pl.String),
    "rate": pl.Float64,
    **dict.fromkeys(("started_at", "ended_at", "undone_at"), pl.Int64),
    **dict.fromkeys(("undone_by", "note"), pl.String),
    **dict.fromkeys(("excluded_from", "excluded_until", "partition"), pl.Int64),
}


def actions_of(words: Iterable[Mapping[str, Any]], policies: Policies) -> list[dict[str, Any]]:
    """A row for each word to which a policy says: throttle."""
    rows = []
    for word in words:
        rate = policies.throttle(word["user_id"], word["detector"], word["severity"])
        if rate is not None:
            told = {name: word[name] for name in _ACTIONS if name in word}
            rows.append({**told, "action": THROTTLE, "rate": rate})
    return rows


def output(rows: Sequence[Mapping[str, Any]], encoder: Encoder) -> Output:
    """Rows of the topic."""
    lines = [[row.get(name) for name in _ACTIONS] for row in rows]
    return Output(
        topic=ACTIONS.name,
        keys=[f"{row['action']}|{row['user_id']}|{row['anomaly_id']}".encode() for row in rows],
        values=encoder.encode(pl.DataFrame(lines, schema=_ACTIONS, orient="row")),
    )
