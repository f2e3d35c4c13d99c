"""Avro schemas of all our records, and their committed copy in `avsc/`.

Upstream: `derivation.py` makes them from the classes. Downstream: the registry, the codecs, and
readers in other languages, who take the files. `python -m streamgauge.schemas.avro` says where the
files differ from the classes, and with `--write` rewrites them.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from streamgauge.schemas import (
    anomaly_records,
    events,
    experiment_records,
    metric_records,
    profile_records,
    records,
    segment_records,
    session_records,
)
from streamgauge.schemas.derivation import avro_schema, full_name, subject
from streamgauge.schemas.events import EVENT_TYPES

__all__ = ["AVSC", "RECORDS", "avro_schema", "committed", "drift", "full_name", "subject"]

AVSC = Path(__file__).with_name("avsc")

RECORDS: dict[str, type] = {
    cls.__name__: cls
    for cls in (
        records.Tick,
        records.Control,
        records.DeadLetter,
        records.LateEvent,
        records.MetricUpdate,
        metric_records.MetricPartial,
        metric_records.UserSketch,
        metric_records.MetricRollup,
        session_records.Session,
        session_records.DeviceSession,
        profile_records.UserProfile,
        profile_records.UserDay,
        profile_records.UserLink,
        segment_records.UserSegment,
        segment_records.SegmentRules,
        segment_records.SegmentCount,
        experiment_records.Exposure,
        experiment_records.ExperimentHistory,
        experiment_records.ExperimentPartial,
        experiment_records.ExperimentResult,
        anomaly_records.AnomalyPoint,
        anomaly_records.Anomaly,
        anomaly_records.Action,
        anomaly_records.AnomalyState,
    )
}
"""Every record but the events, by name."""


def committed() -> dict[str, str]:
    """What `avsc/` has to hold, by file name."""
    built_in = {cls for cls in EVENT_TYPES.values() if cls.__module__ == events.__name__}
    return {
        f"{cls.__name__}.avsc": json.dumps(avro_schema(cls), indent=2) + "\n"
        for cls in sorted(built_in | set(RECORDS.values()), key=lambda cls: cls.__name__)
    }


def drift() -> list[str]:
    """Files of `avsc/` that differ from the classes, are missing or too many."""
    expected = committed()
    found = {path.name: path.read_text() for path in AVSC.glob("*.avsc")}
    return sorted(name for name in expected | found if expected.get(name) != found.get(name))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m streamgauge.schemas.avro")
    parser.add_argument("--write", action="store_true", help="rewrite the committed .avsc files")
    changed = drift()
    if parser.parse_args(arguments).write:
        AVSC.mkdir(exist_ok=True)
        expected = committed()
        for name in changed:
            if name in expected:
                (AVSC / name).write_text(expected[name])
            else:
                (AVSC / name).unlink()
        print(f"{len(changed)} files rewritten in {AVSC}")
        return 0
    for name in changed:
        print(f"{name} differs from its class; run python -m streamgauge.schemas.avro --write")
    return 1 if changed else 0


if __name__ == "__main__":
    sys.exit(main())
