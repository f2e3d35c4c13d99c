"""Profiles against a plain fold, in any order, in any batches."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgauge.cli.verify.profiles import ProfileFold
from streamgauge.schemas.errors import SchemaError
from streamgauge.schemas.profile_fields import PROFILE_FIELDS
from streamgauge.streams.profiles import rows as profile
from streamgauge.streams.profiles.digest import keys, of_events
from streamgauge.streams.profiles.figures import columns
from streamgauge.streams.profiles.outputs import restored, table
from streamgauge.streams.profiles.profiles import State, select, step
from streamgauge.streams.profiles.tags import Names
from tests.streams.profiles.conftest import DAY, event, frame


def folded(events: list[dict[str, Any]], cuts: tuple[int, ...] = ()) -> tuple[State, Names]:
    names, state = Names(), State()
    for first, last in pairwise([0, *sorted(cuts), len(events)]):
        digest = of_events(frame(events[first:last], first), names)
        for part in digest.parts():
            state = step(state, part, names)
    return state, names


def records(state: State, names: Names, users: set[str], day: int) -> dict[str, dict[str, Any]]:
    asked = frame([{"user_id": user, "timestamp": 0, "event_type": ""} for user in users])
    found = select(state, np.sort(keys(asked)))
    at = np.full(len(found.rows), day * DAY)
    return {row["user_id"]: row for row in table(found, at, names).to_dicts()}


def assert_same(expected: dict[str, Any], found: dict[str, Any]) -> None:
    for name, value in expected.items():
        if isinstance(value, float):
            assert found[name] is not None, name
            assert math.isclose(found[name], value, rel_tol=1e-9, abs_tol=1e-12), name
        else:
            assert found[name] == value, name


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_profiles_are_those_of_a_plain_fold_whatever_the_order_and_the_batches(
    data: st.DataObject,
) -> None:
    events = data.draw(st.lists(event(), min_size=1, max_size=25))
    shuffled = data.draw(st.permutations(events))
    cuts = data.draw(st.lists(st.integers(0, len(events)), max_size=4))
    state, names = folded(shuffled, tuple(cuts))
    oracle = ProfileFold()
    for one in events:
        oracle.add(0, one)
    day = 20_000 + data.draw(st.integers(40, 140))
    found = records(state, names, {one["user_id"] for one in events}, day)
    assert len(found) == len(oracle.users)
    for (_, user), expected in oracle.users.items():
        assert_same(expected.as_of(day), found[user])


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_days_long_ago_are_counted_and_streaks_over_the_window_are_whole(
    data: st.DataObject,
) -> None:
    gaps = data.draw(st.lists(st.sampled_from([0, 1, 1, 1, 1, 2, 30, 70, 140]), max_size=20))
    runs = data.draw(st.lists(st.sampled_from([1, 3, 60, 70]), min_size=1, max_size=6))
    day, days = 20_000, []
    for gap, run in zip([*gaps, *[1] * len(runs)], [*runs, *[1] * len(gaps)], strict=False):
        days += range(day, day + run)
        day += run - 1 + gap
    events = [{"user_id": "ann", "event_type": "page_view", "timestamp": d * DAY} for d in days]
    cuts = data.draw(st.lists(st.integers(0, len(events)), max_size=6))
    state, names = folded(events, tuple(cuts))
    oracle = ProfileFold()
    for one in events:
        oracle.add(0, one)
    last = max(days) + data.draw(st.integers(0, 40))
    found = records(state, names, {"ann"}, last)["ann"]
    assert_same(oracle.users[0, "ann"].as_of(last), found)


@pytest.mark.parametrize("day", [127, 128, 20_479, 20_480])
def test_what_fades_is_half_after_eight_days(day: int) -> None:
    days = np.array([day])
    added = profile.weight(days)
    epoch = days // profile.EPOCH_DAYS
    assert profile.faded(added, 0, epoch, days) == 1
    assert profile.faded(added, 0, epoch, days + 8) == 0.5


@pytest.mark.parametrize("count", [5, 40_000, 65_530])
def test_hours_stop_where_they_are_full_and_leave_others_alone(count: int) -> None:
    one, two = profile.empty(2), profile.empty(2)
    one["hours"][:, 3:6] = count, 7, 65_535
    two["hours"][:, 3:6] = 30_000, 1, 1
    two["watch_hours"][1, 0] = 9
    hours = profile.added(one, two, [""])["hours"]
    assert hours[:, 3:6].tolist() == [[min(count + 30_000, 65_535), 8, 65_535]] * 2
    assert not hours[:, 6:].any()
    assert profile.added(one, two, [""])["watch_hours"][1, :2].tolist() == [9, 0]


def test_names_that_say_nothing_are_none() -> None:
    state, names = folded([{"user_id": "ann", "event_type": "page_view", "timestamp": DAY}])
    row = records(state, names, {"ann"}, 1)["ann"]
    assert row["preferred_genres"] == [] and row["country"] is None
    assert row["dropout_risk"] is None and row["preferred_device"] is None


def test_records_of_an_older_version_are_not_taken_for_profiles() -> None:
    with pytest.raises(SchemaError, match=r"older version.*--namespace"):
        restored(pl.DataFrame({"user_id": ["ann"], "state": [None]}), 0)


def test_every_field_that_rules_can_read_is_computed() -> None:
    state, names = folded([{"user_id": "ann", "event_type": "page_view", "timestamp": DAY}])
    asked = frame([{"user_id": "ann", "timestamp": 0, "event_type": ""}])
    found = select(state, keys(asked))
    row = columns(found, np.array([DAY + 7_200_000]), names, PROFILE_FIELDS).row(0, named=True)
    assert row.keys() == PROFILE_FIELDS.keys()
    assert row["events"] == 1 and row["hours_since_last"] == 2 and row["streak_days"] == 1
    assert all(row[f.name] is not None for f in PROFILE_FIELDS.values() if not f.nullable)
