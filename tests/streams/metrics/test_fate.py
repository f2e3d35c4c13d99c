"""The fate of events, against a plain loop; partitions and times drawn at random."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgauge.streams.metrics import fate
from streamgauge.streams.metrics.fate import NONE, decide, no_ids

L = 100_000
NAMES = ("accepted", "duplicate", "late", "future", "tick")


def frame_of(partition: int, log: list[dict[str, Any]], first: int = 0) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "partition": pl.Series([partition] * len(log), dtype=pl.Int32),
            "offset": pl.Series(range(first, first + len(log)), dtype=pl.Int64),
            "append_time": pl.Series(
                [e.get("appended", e["timestamp"]) for e in log], dtype=pl.Int64
            ),
            "event_type": pl.Series([e["event_type"] for e in log], dtype=pl.String),
            "event_id": pl.Series([e.get("event_id") for e in log], dtype=pl.String),
            "timestamp": pl.Series([e["timestamp"] for e in log], dtype=pl.Int64),
        }
    )


def fates_of(log: list[dict[str, Any]], cuts: list[int], lateness: int = L) -> list[str]:
    """In batches that end at the cuts."""
    ids, watermarks, found = no_ids(), {}, []
    for low, high in zip([0, *cuts], [*cuts, len(log)], strict=True):
        if low == high:
            continue
        fates = decide(frame_of(0, log[low:high], low), watermarks, ids, lateness)
        ids, watermarks = fates.ids, dict(fates.watermarks)
        found += [NAMES[verdict] for verdict in fates.verdict]
    return found


def event(time: int, name: str = "", **fields: Any) -> dict[str, Any]:
    return {"event_type": "search", "event_id": name or f"at {time}", "timestamp": time, **fields}


def tick(time: int, **fields: Any) -> dict[str, Any]:
    return {"event_type": "tick", "timestamp": time, **fields}


def test_late_is_what_is_behind_the_watermark_by_more_than_the_lateness() -> None:
    #  wm     -        500_000   500_000
    #  time   500_000  400_000   399_999      floor = 400_000
    log = [event(500_000), event(400_000), event(399_999)]
    assert fates_of(log, []) == ["accepted", "accepted", "late"]


def test_a_tick_advances_the_watermark_and_an_older_one_does_not() -> None:
    log = [event(500_000), tick(700_000), tick(1_000), event(599_999), event(600_000)]
    assert fates_of(log, []) == ["accepted", "tick", "tick", "late", "accepted"]


def test_a_tick_of_a_clock_that_is_ahead_makes_nothing_late() -> None:
    log = [event(500_000), tick(90_000_000, appended=510_000), event(410_000), event(409_999)]
    assert fates_of(log, []) == ["accepted", "tick", "accepted", "late"]


def test_an_event_from_the_future_has_no_effect() -> None:
    ahead = event(900_000, "x", appended=599_999)
    log = [event(500_000), ahead, event(410_000), event(900_000, "x", appended=600_000)]
    assert fates_of(log, []) == ["accepted", "future", "accepted", "accepted"]


def test_a_repeated_id_is_a_duplicate_until_its_original_is_too_old() -> None:
    #  x at 500_000 | floor 500_000 -> duplicate | floor 500_001 -> a new event
    log = [
        event(500_000, "x"),
        tick(600_000),
        event(600_000, "x"),
        tick(600_001),
        event(600_000, "x"),
    ]
    assert fates_of(log, []) == ["accepted", "tick", "duplicate", "tick", "accepted"]


def test_the_same_id_in_another_partition_is_another_event() -> None:
    frame = pl.concat([frame_of(0, [event(5, "x")]), frame_of(3, [event(5, "x")])])
    fates = decide(frame, {}, no_ids(), L)
    assert fates.verdict.tolist() == [fate.ACCEPTED, fate.ACCEPTED]
    assert fates.watermarks == {0: 5, 3: 5}


def test_an_id_that_comes_again_with_another_time_gives_away_its_original() -> None:
    fates = decide(frame_of(2, [event(7, "x"), event(9, "x")]), {}, no_ids(), L)
    assert fates.originals == (fate.Original(partition=2, offset=0, timestamp=7, event_id="x"),)
    assert fates.watermark.tolist() == [NONE, 7]
    assert fates.watermarks == {2: 7}


def test_different_ids_of_equal_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fate, "_key", lambda hashes, partition: hashes.to_numpy() * 0)
    log = [event(1, "x"), event(1, "y"), event(1, "x"), event(1, "y")]
    for cuts in ([], [1], [2], [1, 2, 3]):
        assert fates_of(log, cuts) == ["accepted", "accepted", "duplicate", "duplicate"]


records = st.one_of(
    st.builds(tick, st.integers(0, 40)),
    st.builds(
        lambda time, name, lead: event(time, f"id {name}", appended=time - lead),
        st.integers(0, 40),
        st.integers(0, 6),
        st.sampled_from([0, 0, 0, 300_000, 300_001]),
    ),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(records, max_size=40), st.lists(st.integers(0, 40), max_size=3), st.integers(0, 12))
def test_any_log_in_any_batches_is_decided_as_by_a_plain_loop(
    kit: Any, log: list[dict[str, Any]], cuts: list[int], lateness: int
) -> None:
    cuts = sorted(min(cut, len(log)) for cut in cuts)
    assert fates_of(log, cuts, lateness) == kit.decide(log, lateness)[0]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 60), max_size=60), st.lists(st.integers(0, 60), max_size=3))
def test_the_fast_path_too(kit: Any, times: list[int], cuts: list[int]) -> None:
    log = [event(time, f"of {time}") for time in times]  # equal ids have equal times
    cuts = sorted(min(cut, len(log)) for cut in cuts)
    assert fates_of(log, cuts, 10) == kit.decide(log, 10)[0]
