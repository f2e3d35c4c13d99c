"""Taking back an exclusion of a user from metrics: the body of such a control.

Upstream: `streamgauge anomalies undo`. Downstream: the worker, from whose marker on the user counts
again, and `verify`. The control's name is the anomaly's id.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from streamgauge.schemas.errors import SchemaError
from streamgauge.schemas.records import Control

KIND = "exclusion"


@dataclass(frozen=True, kw_only=True)
class Undone:
    """Who takes it back, and when by their clock."""

    undone_at: int
    undone_by: str
    note: str | None = None

    def control(self, anomaly_id: str) -> Control:
        return Control(kind=KIND, name=anomaly_id, version=1, body=json.dumps(asdict(self)))


def of_control(control: Control) -> Undone:
    """What a marker says; SchemaError where it says nothing."""
    try:
        told: dict[str, Any] = json.loads(control.body or "")
        undone = Undone(**told)
    except (TypeError, ValueError) as error:
        raise SchemaError(f"exclusion {control.name}: not to be read: {error}") from error
    if not isinstance(undone.undone_at, int) or not isinstance(undone.undone_by, str):
        raise SchemaError(f"exclusion {control.name}: undone_at must be a time, undone_by a name")
    return undone
