"""Rounds of a batch: what each user goes through must not depend on how the log is cut."""

from collections import defaultdict
from collections.abc import Mapping

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgauge.streams.metrics.fate import NONE
from streamgauge.streams.rounds import HOUR_MS, MINUTE_MS, Items, Waiting, minutes, rounds

T = 1_760_000_400_000 // HOUR_MS * HOUR_MS

Log = list[tuple[int, int, int]]
"""Partition, user, timestamp."""


def oracle(log: Log) -> dict[tuple[int, int], list[tuple[str, int]]]:
    """What happens to each user, event after event."""
    happened: dict[tuple[int, int], list[tuple[str, int]]] = defaultdict(list)
    for partition in {p for p, _, _ in log}:
        watermark, touched = None, set()
        users = {u for p, u, _ in log if p == partition}
        for _, user, time in (row for row in log if row[0] == partition):
            after = time if watermark is None else max(watermark, time)
            if watermark is not None:
                for end in range(watermark // MINUTE_MS + 1, after // MINUTE_MS + 1):
                    at = end * MINUTE_MS
                    for one in users if at % HOUR_MS == 0 else touched:
                        happened[partition, one].append(("look", at))
                    touched = set()
            happened[partition, user].append(("event", time))
            watermark = after
            touched.add(user)
    return happened


def through(log: Log, sizes: list[int]) -> dict[tuple[int, int], list[tuple[str, int]]]:
    """The same by rounds of batches of these sizes."""
    happened: dict[tuple[int, int], list[tuple[str, int]]] = defaultdict(list)
    users = {(p, u) for p, u, _ in log}
    waiting, marks = Waiting(), dict[int, int]()
    at = number = 0
    while at < len(log):
        batch = sorted(log[at : at + sizes[number % len(sizes)]], key=lambda row: row[0])
        at, number = at + len(batch), number + 1
        before, after, watermark = dict(marks), dict(marks), []
        for p, _, time in batch:
            watermark.append(after.get(p, NONE))
            before.setdefault(p, time)
            after[p] = max(after.get(p, NONE), time)
        partition, user, time = (np.array(column) for column in zip(*batch, strict=True))
        key = partition * 100 + user
        items = Items(
            partition=partition, user=key, minute=minutes(time, np.array(watermark, np.int64))
        )
        after = {p: after[p] for p in set(partition.tolist())}
        found = rounds(items, Items.none(), waiting, before, after)
        for one in found.rounds:
            of = np.stack([key[one.events], items.minute[one.events]])
            assert len(np.unique(of, axis=1).T) == len(np.unique(key[one.events]))
            for place in one.events:
                happened[int(partition[place]), int(user[place])].append(
                    ("event", int(time[place]))
                )
            looked = np.stack([one.looked.user, one.looked.minute], axis=1)
            for k, minute in looked.tolist():
                happened[k // 100, k % 100].append(("look", minute + MINUTE_MS))
            for p, hour in one.hours:
                for who in users:
                    if who[0] == p:
                        happened[who].append(("look", hour))
        waiting = found.waiting
        marks |= after
    return happened


@st.composite
def logs(draw: st.DrawFn) -> Log:
    time, log = T, []
    for step in draw(
        st.lists(st.sampled_from([0, 1, 20_000, 59_999, 60_000, 10 * MINUTE_MS, 2 * HOUR_MS]))
    ):
        time += step
        late = draw(st.sampled_from([0, 0, 30_000, 5 * MINUTE_MS]))
        log.append((draw(st.integers(0, 1)), draw(st.integers(0, 2)), time - late))
    return log


@settings(max_examples=150, deadline=None)
@given(log=logs(), sizes=st.lists(st.integers(1, 12), min_size=1, max_size=4))
def test_users_go_through_the_same_however_the_log_is_cut(log: Log, sizes: list[int]) -> None:
    assert through(log, sizes) == oracle(log)


def test_finals_come_before_their_minutes_end_is_looked_at() -> None:
    def items(*minute: int) -> Items:
        count = len(minute)
        return Items(
            partition=np.zeros(count, np.int32),
            user=np.full(count, 7, np.uint64),
            minute=T + np.array(minute) * MINUTE_MS,
        )

    after: Mapping[int, int] = {0: T + 9 * MINUTE_MS}
    waiting = Waiting().joined_by(items(1))
    found = rounds(items(1, 3, 9), items(3, 4), waiting, {0: T + MINUTE_MS}, after)
    told = [
        (r.events.tolist(), r.finals.tolist(), ((r.looked.minute - T) // MINUTE_MS).tolist())
        for r in found.rounds
    ]
    assert told == [([0], [], [1]), ([1], [0], [3]), ([], [1], []), ([2], [], [])]
    assert ((found.waiting.items.minute - T) // MINUTE_MS).tolist() == [9]


def test_time_that_passes_brings_its_hours() -> None:
    none = Items.none()
    found = rounds(none, none, Waiting(), {0: T + 1}, {0: T + 3 * HOUR_MS})
    assert [r.hours for r in found.rounds] == [((0, T + n * HOUR_MS),) for n in (1, 2, 3)]


def test_within_a_minute_users_gather_and_nobody_is_looked_at() -> None:
    waiting, wm = Waiting(), {0: T}
    for batch in range(200):  # more than are kept apart
        some = Items(
            partition=np.zeros(2, np.int32),
            user=np.array([batch % 7, 9], np.uint64),
            minute=np.full(2, T),
        )
        found = rounds(some, Items.none(), waiting, wm, {0: T + batch})
        assert not any(len(one.looked.user) for one in found.rounds)
        waiting, wm = found.waiting, {0: T + batch}
    none = Items.none()
    found = rounds(none, none, waiting, wm, {0: T + MINUTE_MS})
    assert [sorted(r.looked.user.tolist()) for r in found.rounds] == [[0, 1, 2, 3, 4, 5, 6, 9]]
    assert not found.waiting.parts
