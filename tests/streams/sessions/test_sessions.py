"""Sessions of users and devices: drawn by hand, and against the oracle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgauge.schemas.consent_columns import identifiable_rows
from streamgauge.streams.sessions.sessions import FLOOR_MS, SLOTS, close, flush
from tests.streams.sessions import oracle
from tests.streams.sessions.conftest import L, Log, batches, event, ordered

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
T = 1_760_000_400_000


def spans(log: Log) -> list[tuple[int, int, int]]:
    """Begin, end and number of events, in minutes after T."""
    log.flush()
    return [
        ((row["started_at"] - T) // MINUTE, (row["ended_at"] - T) // MINUTE, row["events"])
        for row in log.sessions()
    ]


def kept(log: Log) -> int:
    """How many spans."""
    return len(log.state.open.compacted()) + log.state.waits


def at(*minutes: float, user: str = "u", **more: object) -> list[dict]:
    return [event(T + int(minute * MINUTE), user, **more) for minute in minutes]


def test_thirty_minutes_still_belong_and_a_millisecond_more_does_not() -> None:
    # 0 ---- 30 ---- 60          and 60 min + 30 min + 1 ms
    assert spans(Log().add(at(0, 30, 60))) == [(0, 60, 3)]
    assert spans(Log().add([*at(0, 30), event(T + 60 * MINUTE + 1)])) == [(0, 30, 2), (60, 60, 1)]


def test_a_session_ends_before_twenty_four_hours_and_midnight_is_nothing() -> None:
    every = [20 * n for n in range(200)]  # 66 h 20 min, over two midnights
    assert spans(Log().add(at(*every))) == [(0, 1420, 72), (1440, 2860, 72), (2880, 3980, 56)]
    almost = [*at(*range(0, 1440, 30)), event(T + DAY - 1)]
    assert spans(Log().add(almost)) == [(0, 1439, 49)]


def test_devices_have_sessions_of_their_own_and_a_user_has_one_over_them() -> None:
    #  phone  0        40       80
    #  tv         20       60
    phone, tv = at(0, 40, 80, device_type="mobile"), at(20, 60, device_type="tv")
    assert spans(Log().add(phone + tv)) == [(0, 80, 5)]
    by_device = Log(by_device=True).add(phone + tv)
    assert spans(by_device) == [(0, 0, 1), (40, 40, 1), (80, 80, 1), (20, 20, 1), (60, 60, 1)]


def test_what_a_session_says() -> None:
    log = Log().add(
        [
            event(T, event_type="search", page_url=None),
            event(T + 1000, page_url="/in#top"),
            event(T + 2000, event_type="course_interaction", action="enroll", page_url="/course"),
            event(T + 3000, event_type="course_interaction", action="view", page_url="/out?x=1"),
            event(T + 4000, event_type="form_submit", page_url=None),
        ]
    )
    log.flush()
    (row,) = log.sessions()
    assert row == {
        "user_id": "u",
        "device_type": None,
        "started_at": T,
        "ended_at": T + 4000,
        "duration_seconds": 4.0,
        "events": 5,
        "page_views": 1,
        "entry_page": "/in",
        "exit_page": "/out",
        "conversions": 2,
        "playbacks": 0,
        "is_bounce": False,
        "is_binge": False,
    }


def test_of_events_at_the_same_time_the_ids_say_which_page_was_first() -> None:
    log = Log().add([event(T, event_id=name, page_url=f"/{name}") for name in ("b", "c", "a")])
    log.flush()
    (row,) = log.sessions()
    assert (row["entry_page"], row["exit_page"]) == ("/a", "/c")


def test_a_late_event_joins_two_sessions_and_the_second_is_gone() -> None:
    # 0 .... [30] .... 55
    log = Log().add(at(0, 55))
    assert spans(log) == [(0, 0, 1), (55, 55, 1)]
    log.add(at(30))
    assert [(row["started_at"] - T, row["events"]) for row in log.flush()] == [(0, 3)]
    assert spans(log) == [(0, 55, 3)]


def test_a_late_event_before_the_begin_moves_it() -> None:
    log = Log().add(at(20))
    log.flush()
    assert spans(log.add(at(0))) == [(0, 20, 2)]


def test_time_alone_closes_a_session() -> None:
    log = Log().add(at(0, 10))
    assert [row["is_final"] for row in log.flush()] == [False]
    over = T + 40 * MINUTE + L + FLOOR_MS  # an event at exactly 40 min would still belong
    assert log.passes(over - 1).flush() == []
    assert [row["is_final"] for row in log.passes(over).flush()] == [True]
    assert kept(log) == 0
    assert log.passes(over + DAY).flush() == []


def test_the_cap_closes_a_session_that_goes_on() -> None:
    log = Log()
    for hour in range(26):
        log.add(at(*range(60 * hour, 60 * hour + 60, 10)))
        log.flush()
    assert spans(log) == [(0, 1430, 144), (1440, 1550, 12)]
    assert [row["is_final"] for row in log.table.values()] == [True, False]


def test_of_a_session_one_span_is_kept() -> None:
    log = Log()
    for hour in range(23):
        log.add(at(*range(60 * hour, 60 * hour + 60)))
        log.flush()
    assert spans(log) == [(0, 1379, 1380)]
    assert kept(log) == 1


def test_where_late_events_may_be_a_day_late_the_last_day_is_kept() -> None:
    log = Log(lateness=DAY)
    for hour in range(30):
        log.add(at(*range(60 * hour, 60 * hour + 60, 10)))
        log.flush()
    assert spans(log) == [(0, 1430, 144), (1440, 1790, 36)]
    assert 145 <= kept(log) <= 150
    assert spans(log.add(at(-10))) == [(-10, 1420, 144), (1430, 1790, 37)]


def test_a_cut_is_kept_open_for_the_session_that_a_late_event_lengthens() -> None:
    # 0 every 30 min .... 23:00 | 23:45 .. 24:15, then 23:20 comes: the first is cut at 24:00
    log = Log().add(at(*range(0, 1381, 30)))
    log.flush()
    for minute in range(1425, 1456, 5):
        log.add(at(minute))
        log.flush()
    assert spans(log) == [(0, 1380, 47), (1425, 1455, 7)]
    assert spans(log.add(at(1400))) == [(0, 1435, 51), (1440, 1455, 4)]


def test_three_episodes_of_a_series_in_one_session_are_a_binge() -> None:
    def plays(minute: float, series: str | None, episode: str | None, **more: str) -> dict:
        of = {"series_id": series, "episode": episode, "action": "complete"} | more
        return at(minute, event_type="playback", **of)[0]

    log = Log().add([plays(0, "s", "1"), plays(1, "s", "1"), plays(2, "s", "2")])
    log.add([plays(3, "t", "3"), plays(4, None, "3"), plays(5, "s", "3", action="skip")])
    log.flush()
    assert [(row["playbacks"], row["is_binge"]) for row in log.sessions()] == [(6, False)]
    log.add([plays(6, "s", None, item_id="3")])
    log.flush()
    assert [(row["playbacks"], row["is_binge"]) for row in log.sessions()] == [(7, True)]
    log.add(at(7))
    log.flush()
    assert [row["is_binge"] for row in log.sessions()] == [True]


def test_who_denied_analytics_has_no_session() -> None:
    log = Log().add([*at(0, consent_analytics=False), *at(1, user="v", consent_analytics=True)])
    assert {row["user_id"] for row in log.flush()} == {"v"}
    silent = Log()
    silent.identifiable = identifiable_rows("denied")
    assert silent.add(at(0)).flush() == []


def test_a_state_that_was_kept_is_a_state_to_go_back_to() -> None:
    log = Log().add(at(0, 10))
    log.flush()
    before, table = log.state, dict(log.table)
    log.add(at(20, 200)).passes(T + DAY).flush()
    log.state, log.table, log.final = before, table, set()
    assert spans(log.add(at(30))) == [(0, 30, 3)]


def test_partitions_have_times_of_their_own() -> None:
    log = Log().add([*at(0, partition=0), *at(0, user="v", partition=1)])
    log.flush()
    told = log.add(at(600, user="w", partition=1)).flush()
    assert [(row["user_id"], row["is_final"]) for row in told if row["is_final"]] == [("v", True)]


USERS, DEVICES = ("ann", "bob"), (None, "mobile", "tv")
# Around what decides: 30 minutes, the day; and nothing, for events at the same time.
STEPS = st.sampled_from(
    [0, 1, MINUTE, 17 * MINUTE, 30 * MINUTE - 1, 30 * MINUTE, 30 * MINUTE + 1, 2 * HOUR, DAY - HOUR]
)


@st.composite
def logs(draw: st.DrawFn) -> list[dict]:
    """Events in the order in which they arrive: none is more than L behind the one before it."""
    rows, time = [], T
    for number, step in enumerate(draw(st.lists(STEPS, max_size=60))):
        time += step
        rows.append(
            event(
                time,
                draw(st.sampled_from(USERS)),
                event_id=f"{draw(st.integers(0, 9))}-{number}",
                event_type=draw(
                    st.sampled_from(["page_view", "form_submit", "search", "playback", "playback"])
                ),
                action=draw(st.sampled_from(["complete", "skip"])),
                series_id=draw(st.sampled_from([None, "s", "s", "t"])),
                episode=draw(st.sampled_from([None, "1", "2", "3"])),
                item_id=draw(st.sampled_from([None, "1", "4"])),
                device_type=draw(st.sampled_from(DEVICES)),
                page_url=draw(st.sampled_from([None, "/a?x", "/b", "/c"])),
                partition=draw(st.integers(0, 1)),
            )
        )
    for row in rows:  # all of a user is in one partition
        row["partition"] = USERS.index(row["user_key"])
    delay = [draw(st.integers(0, L)) for _ in rows]
    arrival = sorted(range(len(rows)), key=lambda n: rows[n]["timestamp"] + delay[n])
    return [rows[number] for number in arrival]


@pytest.mark.parametrize("by_device", [False, True])
@settings(max_examples=60, deadline=None)
@given(
    rows=logs(),
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=5),
    slots=st.lists(st.sets(st.integers(0, SLOTS - 1)), min_size=1),
    folds=st.lists(st.booleans(), min_size=1, max_size=5),
)
def test_however_events_arrive_the_sessions_are_the_oracles(
    by_device: bool, rows: list[dict], sizes: list[int], slots: list[set[int]], folds: list[bool]
) -> None:
    by = ("user_key", "device_type") if by_device else ("user_key",)
    log = Log(by_device=by_device)
    for number, batch in enumerate(batches(rows, sizes)):
        log.add(batch)
        if folds[number % len(folds)]:
            log.fold()
        log.flush(slots[number % len(slots)])
    log.flush()
    expected = ordered(oracle.sessions(rows, by))
    assert log.sessions() == expected
    if rows:
        log.passes(max(row["timestamp"] for row in rows) + 3 * DAY).flush()
    assert log.sessions() == expected
    assert all(row["is_final"] for row in log.table.values())
    assert kept(log) == 0


def test_many_users_with_few_and_many_events() -> None:
    random = np.random.default_rng(7)
    count = 20_000
    user = np.where(random.random(count) < 0.3, 0, random.integers(0, 500, count))
    times = np.sort(T + random.integers(0, 3 * DAY, count))
    rows = [
        event(int(time), f"u{u}", event_id=str(n), partition=int(u) % 3, page_url=None)
        for n, (time, u) in enumerate(zip(times, user, strict=True))
    ]
    log = Log()
    for batch in batches(rows, [700, 1, 3000]):
        log.add(batch)
        log.flush()
    assert log.sessions() == ordered(oracle.sessions(rows, ("user_key",)))
    assert sum(row["is_final"] for row in log.table.values()) > 500


@pytest.mark.parametrize("lateness", [L // 4, L, 12 * L, 23 * L])
def test_sessions_of_about_a_day_are_cut_where_they_must_be(lateness: int) -> None:
    random = np.random.default_rng(lateness)
    rows = []
    for user in range(40):  # gaps of about 30 minutes, so that what comes late joins days
        steps = random.choice([5, 20, 29, 30, 31, 40], 90, p=[0.2, 0.3, 0.26, 0.2, 0.02, 0.02])
        for time in T + MINUTE * (random.integers(0, 90) + steps.cumsum()):
            rows.append(event(int(time), f"u{user}", page_url=None, partition=user % 2))
    delay = random.integers(0, lateness + 1, len(rows)) * (random.random(len(rows)) < 0.3)
    arrival = np.argsort([row["timestamp"] for row in rows] + delay, kind="stable")
    log = Log(lateness=lateness)
    for number, batch in enumerate(batches([rows[n] for n in arrival], [50, 1, 300])):
        log.add(batch)
        if number % 3:
            log.fold()
        log.flush({number % SLOTS})
    log.passes(max(row["timestamp"] for row in rows) + 3 * DAY).flush()
    assert log.sessions() == ordered(oracle.sessions(rows, ("user_key",)))


def test_nothing_is_told_of_nothing() -> None:
    log = Log()
    assert log.flush() == []
    assert close(log.state, L)[0] == flush(log.state, L)[0] == log.state
