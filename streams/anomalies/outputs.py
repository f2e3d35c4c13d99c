"""Words and memory as frames and bytes for the topics.

Upstream: `tasks.py`, `user_branch.py`. Downstream: `anomalies`, and the changelogs. Invariant: all
words about a flag have one key, so the last one is how it stands.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from streamgauge.schemas.encoder import Encoder
from streamgauge.schemas.topics import ANOMALIES
from streamgauge.streams.engine.task import Output

_ANOMALIES: Mapping[str, Any] = {
    **dict.fromkeys(("anomaly_id", "series", "metric", "dimensions", "user_id"), pl.String),
    **dict.fromkeys(("detector", "severity"), pl.String),
    **dict.fromkeys(("started_at", "ended_at"), pl.Int64),
    **dict.fromkeys(("expected", "observed", "score"), pl.Float64),
    **dict.fromkeys(("points", "version"), pl.Int64),
    "is_final": pl.Boolean,
}
_STATE: Mapping[str, Any] = {"series": pl.String, "next_minute": pl.Int64, "state": pl.Binary}


def anomalies(words: Sequence[Mapping[str, Any]], encoder: Encoder) -> Output:
    """Words about flags."""
    lines = [[word[name] for name in _ANOMALIES] for word in words]
    frame = pl.DataFrame(lines, schema=_ANOMALIES, orient="row")
    keys = [f"{w['series']}|{w['detector']}|{w['started_at']}".encode() for w in words]
    return Output(topic=ANOMALIES.name, keys=keys, values=encoder.encode(frame))


def states(rows: Sequence[tuple[str | None, int | None, bytes]]) -> pl.DataFrame:
    """Rows of a changelog."""
    return pl.DataFrame(rows, schema=_STATE, orient="row")
