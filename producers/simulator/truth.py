"""What the simulator did, as an oracle for later checks.

Upstream: `simulation.py` counts every record it sends. Downstream: a JSON file, for `demo`,
tests and people. Invariant: records = the sum of accepted, duplicates, late and broken.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from streamgauge.producers.simulator.anomalies import Anomaly
from streamgauge.producers.simulator.behaviour import (
    BINGE_RATE,
    CLICK_RATE,
    RETURN_RATE,
    SESSION_MINUTES,
)
from streamgauge.producers.simulator.experiments import EXPERIMENTS
from streamgauge.producers.simulator.faults import BROKEN, Record


@dataclass(kw_only=True)
class Truth:
    """Counts by fate, and by event type (of broken records, by kind of defect)."""

    parameters: dict[str, Any]
    anomalies: list[Anomaly]
    records: int = 0
    accepted: Counter[str] = field(default_factory=Counter)
    duplicates: Counter[str] = field(default_factory=Counter)
    late: Counter[str] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    out_of_order: int = 0
    first_timestamp: int | None = None
    last_timestamp: int | None = None
    acknowledged: int = 0
    failed: int = 0
    complete: bool = False
    seconds: float = 0.0

    def count(self, record: Record) -> None:
        """One record was handed to the client."""
        self.records += 1
        if record.fate == "accepted":
            self.accepted[record.kind] += 1
            self.out_of_order += record.out_of_order
            if self.last_timestamp is None or record.timestamp > self.last_timestamp:
                self.last_timestamp = record.timestamp
            if self.first_timestamp is None:
                self.first_timestamp = record.timestamp
        elif record.fate == "duplicate":
            self.duplicates[record.kind] += 1
        elif record.fate == "late":
            self.late[record.kind] += 1
        else:
            self.broken[record.kind] += 1

    def as_dict(self) -> dict[str, Any]:
        """Everything, with totals, as it goes into the file."""
        dead_letters: Counter[str] = Counter()
        for kind, count in self.broken.items():
            dead_letters[BROKEN[kind][0]] += count
        return {
            **vars(self),
            "anomalies": [asdict(anomaly) for anomaly in self.anomalies],
            "totals": {
                "records": self.records,
                "accepted": self.accepted.total(),
                "duplicates": self.duplicates.total(),
                "late": self.late.total(),
                "broken": self.broken.total(),
            },
            "dead_letters": dead_letters,
            "experiments": [asdict(experiment) for experiment in EXPERIMENTS],
            "baselines": {
                "click_through_rate": CLICK_RATE,
                "session_minutes": SESSION_MINUTES,
                "seven_day_return_rate": RETURN_RATE,
                "binge_rate": BINGE_RATE,
            },
        }

    def write(self, path: Path) -> None:
        """The whole file or none: a reader never sees half of it."""
        partial = path.with_name(f"{path.name}.partial")
        partial.write_text(json.dumps(self.as_dict(), indent=2, sort_keys=True) + "\n")
        partial.replace(path)
