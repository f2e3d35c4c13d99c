"""What an experiment found, as one JSON document: for webhooks, and `experiments report --json`.

Upstream: the rows of an experiment's last look, from the table or the topic. Downstream: programs
of other people. Invariants: rows are in the order of roles, then by metric, the control first;
times are ISO 8601 in UTC.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from streamgauge.schemas.experiment_records import ExperimentResult

ROLES = ("primary", "secondary", "guardrail")
COMPLETED, UPDATE = "experiment_completed", "experiment_update"


def document(experiment: str, state: str, rows: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The event, with the rows."""
    event = COMPLETED if state == "stopped" else UPDATE
    return {"event": event, "experiment_id": experiment, "results": sorted(rows, key=_place)}


def of_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of `experiment-results` as the table has it."""
    row = {name: record.get(name) for name in ExperimentResult.__slots__}
    at, analysis = record["as_of"], record.get("analysis")
    row["as_of"] = datetime.fromtimestamp(at / 1000, UTC).isoformat()
    row["analysis"] = None if analysis is None else json.loads(analysis)
    return row


def _place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    role = ROLES.index(row["role"]) if row["role"] in ROLES else len(ROLES)
    return role, row["metric"], not row["is_control"], row["variant"]
