"""Profiles over their topics: what was written is what is, whatever was held back and restarted."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgauge.schemas.columnar import Decoder
from streamgauge.schemas.messages import Messages
from streamgauge.schemas.profile_columns import with_counts
from streamgauge.schemas.registry import open_registry
from streamgauge.streams.branch import Accepted, Horizon
from streamgauge.streams.profiles.digest import keys
from streamgauge.streams.profiles.feed import Profiles
from streamgauge.streams.profiles.profiles import Finals
from tests.streams.profiles.conftest import DAY, event, frame

REGISTRY = open_registry("mock://profiles")
NOWHERE = {0: Horizon(offset=0, timestamp=0)}


class Worker:
    """A worker with its topics: rows of one partition by key."""

    def __init__(self) -> None:
        self.topics: dict[str, dict[bytes, bytes]] = {}
        self.writes: list[tuple[float, bytes]] = []
        self.profiles = Profiles(REGISTRY)
        self.now, self.watermark = 1000.0, 0

    def process(self, events: list[dict[str, Any]], first: int, finals: list[Any] = []) -> None:  # noqa: B006
        self._take(events, first)
        if finals:
            self.profiles.sessions(some(finals))

    def _take(self, events: list[dict[str, Any]], first: int) -> None:
        rows = frame(events, first)
        times = [one["timestamp"] for one in events]
        for part in self.profiles.digest(rows).parts():
            self.profiles.step(part)
        self.profiles.linked(rows)
        self.watermark = max(self.watermark, *times, 0)
        self.profiles.passed(
            Accepted(frame=rows, watermark=np.zeros(len(times)), watermarks={0: self.watermark})
        )

    def flush(self, seconds: float = 0.1, horizon: Horizon = NOWHERE[0]) -> None:
        self.now += seconds
        for output in self.profiles.flush(self.now, {0: horizon}):
            rows = self.topics.setdefault(output.topic, {})
            for key, value, partition in output.rows():
                assert partition == 0 and key is not None and value is not None
                rows[key] = value
                if output.topic == "user-profiles":
                    self.writes.append((self.now, key))
        self.profiles.commit()

    def settle(self) -> None:
        for _ in range(200):
            if self.profiles.settled:
                return
            self.flush(1.0)
        raise AssertionError("rows are held back for ever")

    def restart(self, replayed: list[dict[str, Any]], first: int) -> None:
        self.profiles = Profiles(REGISTRY)
        for topic in self.profiles.changelogs:
            rows = self.topics.get(topic, {})
            self.profiles.restore(topic, list(rows), list(rows.values()), 0)
        self._take(replayed, first)
        self.profiles.restored({0})

    def move(self, replayed: list[dict[str, Any]], first: int, snapshot: bytes) -> None:
        self.profiles = Profiles(REGISTRY)
        assert self.profiles.load(0, memoryview(snapshot))
        self._take(replayed, first)
        self.profiles.restored({0})

    def table(self, topic: str) -> dict[bytes, dict[str, Any]]:
        rows = self.topics.get(topic, {})
        count = len(rows)
        messages = Messages(
            topic, list(rows), list(rows.values()), np.zeros(count, np.int32),
            np.arange(count), np.zeros(count, np.int64),
        )  # fmt: skip
        frame = Decoder(REGISTRY, topic).decode(messages).frame
        if topic == "user-profiles":
            frame = with_counts(frame)
        return dict(zip(rows, frame.to_dicts(), strict=True))


def some(finals: list[tuple[str, int, int]]) -> Finals:
    users = frame([{"user_id": user, "timestamp": 0, "event_type": ""} for user, *_ in finals])
    return Finals(
        key=keys(users),
        start=np.array([start for _, start, _ in finals]),
        duration=np.array([length for *_, length in finals]),
        bounce=np.array([length == 0 for *_, length in finals]),
        binge=np.zeros(len(finals), bool),
    )


def assert_written(worker: Worker) -> None:
    """The topics say what is."""
    profiles, days, links = worker.profiles.table()
    found = worker.table("user-profiles")
    assert len(found) == profiles.height
    for row in profiles.to_dicts():
        written = found[row["user_id"].encode()]
        assert {name: written[name] for name in row} == row
    written_days = worker.table("daily-analytics")
    for row in days.to_dicts():
        written = written_days[b"%s|%d" % (row["user_id"].encode(), row["date"] // DAY)]
        assert {name: written[name] for name in row} == row
    assert len(worker.table("user-links")) == links.height


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_is_written_is_what_one_run_without_restarts_would_have(data: st.DataObject) -> None:
    span = data.draw(st.sampled_from([1, 5, 100]))
    events = data.draw(st.lists(event(days=span), min_size=1, max_size=25))
    events.sort(key=lambda one: one["timestamp"])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(events)), max_size=5)))
    worker, whole = Worker(), Worker()
    committed = saved = 0
    snapshot = b""
    for first, last in pairwise([0, *cuts, len(events)]):
        batch = events[first:last]
        if batch and data.draw(st.booleans(), "abort"):
            worker.process(batch, first)
            list(worker.profiles.flush(worker.now, NOWHERE))
            worker.profiles.abort()
        worker.process(batch, first)
        worker.flush(data.draw(st.sampled_from([0.1, 0.7, 6.0])))
        committed = last
        what = data.draw(st.sampled_from(["go on", "restart", "save", "move"]))
        if what == "restart":
            worker.restart(events[:committed], 0)
            snapshot = b""
        if what == "save":
            snapshot, saved = worker.profiles.snapshot()(0), committed
        if what == "move" and snapshot:
            worker.move(events[saved:committed], saved, snapshot)
    worker.settle()
    assert_written(worker)
    whole.process(events, 0)
    for one, other in zip(worker.profiles.table(), whole.profiles.table(), strict=True):
        by = one.columns[0] if one.columns[0] != "user_id" else ["user_id", one.columns[1]]
        kept = other
        if "date" in one.columns:  # days that nothing changes are let go
            kept = other.join(one.select("user_id", "date"), on=["user_id", "date"], how="semi")
        assert one.sort(by).equals(kept.sort(by))


def test_a_user_is_written_once_in_five_seconds_and_at_once_if_a_replay_would_not_do() -> None:
    worker = Worker()
    page = {"event_type": "page_view", "timestamp": 20_000 * DAY}
    for step in range(100):
        worker.process([{**page, "user_id": "ann"}, {**page, "user_id": "bob"}], 2 * step)
        worker.flush(0.1)
    for key in (b"ann", b"bob"):
        times = [at for at, written in worker.writes if written == key]
        assert 1 <= len(times) <= 3
    worker.process([{**page, "user_id": "eve"}], 1000)
    worker.flush(0.001, Horizon(offset=1001, timestamp=0))
    assert b"eve" in [key for _, key in worker.writes[-3:]]


def test_a_session_that_is_over_is_written_at_once_and_counts_once() -> None:
    worker = Worker()
    at = 20_000 * DAY
    page = {"event_type": "page_view", "timestamp": at, "user_id": "ann"}
    worker.process([page], 0)
    worker.process([], 1, [("ann", at, 60_000)])
    worker.process([], 1, [("ann", at, 60_000)])
    worker.flush(0.001)
    row = worker.table("user-profiles")[b"ann"]
    assert row["sessions"] == 1 and row["session_ms"] == 60_000
    day = worker.table("daily-analytics")[b"ann|20000"]
    assert (day["sessions"], day["minutes"], day["events"]) == (1, 1.0, 1)


def test_a_new_day_writes_everybody_again_until_they_are_gone_for_90_days() -> None:
    worker = Worker()
    page = {"event_type": "page_view", "user_id": "ann"}
    worker.process([{**page, "timestamp": 20_000 * DAY}], 0)
    worker.settle()
    for day in (20_010, 20_095, 20_120):
        worker.process([{**page, "user_id": "bob", "timestamp": day * DAY}], day)
        worker.settle()
        row = worker.table("user-profiles")[b"ann"]
        assert row["days_since_last_seen"] == min(day - 20_000, 90)


def test_identify_links_two_names_once_by_the_earliest_event() -> None:
    worker = Worker()
    known = {"event_type": "identify", "user_id": "ann", "anonymous_id": "a-1"}
    for offset, time in enumerate([5, 3, 4]):
        worker.process([{**known, "timestamp": 20_000 * DAY + time}], offset)
        worker.flush()
    assert worker.profiles.settled is False
    [row] = worker.table("user-links").values()
    assert row["linked_at"] == 20_000 * DAY + 3
    assert isinstance(worker.profiles.table()[2], pl.DataFrame)
