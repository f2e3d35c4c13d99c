"""The fold of `verify` and the worker's own logic say the same of users, however a log is cut."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from streamgauge.cli.backtest import log as logs
from streamgauge.cli.backtest.run import Backtest, compute, read
from streamgauge.cli.verify.fate import Fate, SourcePartition
from streamgauge.cli.verify.users import Users
from streamgauge.schemas.metrics import load_definitions
from streamgauge.schemas.segments import Rules, builtin, load_rules
from streamgauge.schemas.unknown import UnknownTypes

T, MINUTE, HOUR, DAY = 1_760_054_400_000, 60_000, 3_600_000, 86_400_000
LATENESS = 600_000
METRICS = "extends: none\nmetrics: [{name: events, aggregate: count}]"
RULES = """
extends: builtin
segments:
  - {name: again, enter: sessions >= 2 and avg_session_minutes >= 1}
  - {name: here, enter: hours_since_last < 2}
  - {name: even, enter: engagement_score > 20, leave: engagement_score < 15}
  - {name: watching, enter: watch_hours > 0.5 or genres > 1 or top_genre == 'drama'}
  - {name: known, enter: country is not None and days_since_first >= 1}
"""


def events(rng: random.Random, count: int, span: int) -> list[dict[str, Any]]:
    """Some days of a few people, in an order that makes some events late; some come twice."""
    found: list[dict[str, Any]] = []
    for number in range(count):
        event: dict[str, Any] = {
            "event_id": f"e{number:05}",
            "event_type": rng.choice(["page_view", "search", "quiz_attempt", "playback"]),
            "timestamp": T + int(span * rng.random() ** 2),
            "device_type": rng.choice(["mobile", "desktop", None]),
            "country": rng.choice(["DE", None, None]),
            "consent_analytics": rng.choice([True, None, None, None, False]),
        }
        event[rng.choice(["user_id", "user_id", "anonymous_id"])] = f"u{rng.randrange(12)}"
        if event["event_type"] == "quiz_attempt":
            event |= {"score": rng.randrange(10), "total_questions": 10}
        if event["event_type"] == "playback":
            event |= {"action": rng.choice(["start", "complete"]), "series_id": "s"}
            event |= {"episode": str(rng.randrange(5)), "duration_ms": 1_800_000}
            event |= {"genre": rng.choice(["drama", "crime"]), "exploration": rng.random() < 0.4}
        found.append(event)
    found.sort(key=lambda event: event["timestamp"] + rng.choice([0, 0, 2, 15]) * MINUTE)
    return [event for event in found for _ in range(rng.choice([1, 1, 1, 2]))]


def recomputed(asked: Backtest, frame: pl.DataFrame, rules: Rules) -> Users:
    fold = Users(rules, lateness_ms=asked.lateness, consent_denied=False)
    partitions: dict[int, SourcePartition] = {}
    for batch in logs.batches(frame, asked.order, asked.partitions, asked.arrived_at):
        for row in batch.iter_rows(named=True):
            source = partitions.setdefault(row["partition"], SourcePartition(asked.lateness))
            fate = source.event(row["event_id"], row["timestamp"], row["append_time"])
            if fate is Fate.ACCEPTED:
                fold.event(row["partition"], row["offset"], row)
    last = max(partition.watermark or 0 for partition in partitions.values())
    for partition in range(asked.partitions):
        fold.tick(partition, last)
    fold.finish()
    return fold


@pytest.mark.parametrize(("seed", "size", "days"), [(1, 7, 3), (2, 60, 1), (3, 100_000, 40)])
def test_segments_are_the_recomputations(
    seed: int, size: int, days: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "events.jsonl"
    rows = events(random.Random(seed), 150, days * DAY)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    rules = load_rules(RULES)
    asked = Backtest(
        path=str(file),
        form="jsonl",
        definitions=load_definitions(METRICS),
        lateness=LATENESS,
        consent_default="granted",
        partitions=2,
        order="file",
        arrived_at=T + 100 * DAY,
        conversions=(),
        rules=rules,
        unknown=UnknownTypes.parse("dead-letter"),
    )
    lines = read(asked, lambda _: None)
    monkeypatch.setattr(logs, "BATCH", size)
    found = compute(asked, lines, lambda _: None)
    assert found.late > 0
    assert found.duplicates > 0
    fold = recomputed(asked, lines.events, rules)
    stays = {
        (user, segment, since): tuple(rest)
        for user, segment, since, *rest in found.tables["user_segments"].rows()
    }
    expected = {
        tuple(key): (stay.left_at, stay.reason_in, stay.reason_out, stay.rule_version)
        for key, stay in fold.membership.stays.items()
    }
    assert stays == expected
    counts = {
        (segment, at, partition): members
        for segment, at, members, partition in found.tables["segment_counts"].rows()
    }
    assert counts == fold.membership.counts
    assert {"again", "here", "even", "watching"} <= {segment for _, segment, _ in stays}


def test_the_built_in_rules_are_what_a_worker_begins_with() -> None:
    fold = Users(builtin(), lateness_ms=LATENESS, consent_denied=True)
    fold.event(0, 0, {"event_id": "e", "event_type": "search", "timestamp": T, "user_id": "u"})
    fold.tick(0, T + HOUR)
    assert fold.membership.stays == {}  # who does not say so is not known
