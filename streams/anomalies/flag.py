"""A flag: what a detector says of a series, from when to when.

Upstream: `incident.py`, `absence.py`, `levels.py`. Downstream: the table `anomalies`, alerts,
`streamgauge anomalies detect`.

Invariants: a flag is told by (detector, start), and a later one of the same replaces it: opened,
then perhaps worse, then cleared (`end` is set).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Severity = Literal["yellow", "red"]


@dataclass(frozen=True, kw_only=True)
class Flag:
    """An anomaly; standing while `end` is None. Times are seconds since the epoch."""

    detector: str
    severity: Severity
    start: float
    end: float | None = None
    expected: float | None
    observed: float | None
    score: float
