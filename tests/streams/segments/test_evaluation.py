"""Who moves, and why: against an oracle that looks at one user after the other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgauge.schemas.segments import Rules, load_rules
from streamgauge.streams.segments.evaluation import Count, changed, evaluate
from streamgauge.streams.segments.moves import Move
from streamgauge.streams.segments.state import SegmentState
from tests.streams.segments.oracle import Oracle

MINUTE, HOUR = 60_000, 3_600_000
SCHEMA = {
    "partition": pl.Int32,
    "user_key": pl.String,
    "minute": pl.Int64,
    "events": pl.Int64,
    "engagement_score": pl.Float64,
    "device_type": pl.String,
}
RULES = [
    {"busy": ("events >= 3", "events < 2"), "mobile": ("device_type == 'mobile'", None)},
    {"busy": ("events >= 2", "events < 1"), "mobile": ("device_type == 'mobile'", None)},
    {"aloof": ("not engagement_score > 5", None), "busy": ("events >= 3", "events < 2")},
    {"zero": ("events == 0", "events >= 2"), "mobile": ("device_type in ['mobile']", None)},
]


def rules_of(number: int) -> Rules:
    named = RULES[number]
    listed = [
        {"name": name, "enter": enter} | ({"leave": leave} if leave else {})
        for name, (enter, leave) in named.items()
    ]
    return load_rules(json.dumps({"extends": "none", "segments": listed}), version=number)


def frame(rows: Sequence[dict[str, Any]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA)


def person(user: str, minute: int, **fields: Any) -> dict[str, Any]:
    empty = {"events": 0, "engagement_score": None, "device_type": None}
    return {"partition": 0, "user_key": user, "minute": minute} | empty | fields


def begun(number: int = 0, partitions: int = 1) -> SegmentState:
    rules = rules_of(number)
    return SegmentState(rules=dict.fromkeys(range(partitions), rules))


people = st.fixed_dictionaries(
    {
        "user": st.sampled_from("abcd"),
        "events": st.integers(0, 4),
        "engagement_score": st.none() | st.sampled_from([1.0, 7.25]),
        "device_type": st.none() | st.sampled_from(["mobile", "tv"]),
    }
)
minutes = st.lists(st.lists(people, max_size=4, unique_by=lambda row: row["user"]), max_size=8)


@settings(max_examples=60, deadline=None)
@given(minutes, st.lists(st.integers(1, 3), max_size=8))
def test_moves_are_those_of_the_oracle_however_many_minutes_come_at_once(
    looked_at: list[list[dict[str, Any]]], sizes: list[int]
) -> None:
    oracle = Oracle(RULES[0])
    rows: list[list[dict[str, Any]]] = []
    for number, some in enumerate(looked_at):
        at = (number + 1) * MINUTE
        rows.append([person(minute=at, **row) for row in some])
        oracle.look(at, rows[-1])
    state, moves = begun(), list[Move]()
    at = 0
    for size in [*sizes, len(rows)]:
        part = [row for some in rows[at : at + size] for row in some]
        at += size
        state, found, _ = evaluate(state, frame(part))
        moves += found
    found_moves = [(m.at, m.user_id, m.segment, m.entered_at, m.is_member, False) for m in moves]
    assert sorted(found_moves) == sorted(oracle.moves)
    held = {place: sum(segment == place for _, segment in oracle.since) for place in RULES[0]}
    assert {name: state.members.get((0, name), 0) for name in RULES[0]} == held


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.lists(people, max_size=4)), max_size=6))
def test_a_change_moves_whom_the_oracle_moves_and_says_so(
    steps: list[tuple[int, list[dict[str, Any]]]],
) -> None:
    """Each step changes what is known of some, and then the rules."""
    oracle, state, moves = Oracle(RULES[0]), begun(), list[Move]()
    known: dict[str, dict[str, Any]] = {}
    for number, (rules, news) in enumerate(steps):
        known |= {row["user"]: row for row in news}
        at = (number + 1) * MINUTE
        everybody = [person(minute=at, **row) for row in known.values()]
        looked_at = [row for row in everybody if row["user_key"] in "ab"]
        oracle.look(at, looked_at)
        state, found, _ = evaluate(state, frame(looked_at))
        moves += found
        later = [row | {"minute": at + 30} for row in everybody]
        oracle.change(at + 30, later, RULES[rules])
        state, found = changed(state, frame(later), 0, rules_of(rules))
        moves += found
    found_moves = [
        (m.at, m.user_id, m.segment, m.entered_at, m.is_member, "change" in json.loads(m.reason))
        for m in moves
    ]
    assert sorted(found_moves) == sorted(oracle.moves)
    assert len({json.loads(m.reason).get("change", "rule v0") for m in moves}) <= len(RULES)


def test_a_move_says_the_values_that_caused_it() -> None:
    rules = load_rules(
        "{extends: none, segments: [{name: keen, enter: events >= 2 and engagement_score > 1}]}"
    )
    state = SegmentState(rules={0: rules})
    state, (enters,), _ = evaluate(
        state, frame([person("ann", MINUTE, events=2, engagement_score=1.23456789)])
    )
    state, (leaves,), _ = evaluate(state, frame([person("ann", 5 * MINUTE, events=1)]))
    (keen,) = rules.segments
    reason = '{"engagement_score":1.234568,"events":2}'
    assert enters == Move(0, MINUTE, "ann", "keen", MINUTE, True, reason, keen.version)
    assert leaves == Move(
        *(0, 5 * MINUTE, "ann", "keen", MINUTE, False),
        '{"engagement_score":null,"events":1}',
        keen.version,
    )


def test_between_enter_and_leave_nobody_moves() -> None:
    """events  3   2   1   2   3
    busy       in  in  out out in
    """
    state, told = begun(), []
    for minute, events in enumerate([3, 2, 1, 2, 3]):
        state, moves, _ = evaluate(state, frame([person("ann", minute * MINUTE, events=events)]))
        told += [(m.at // MINUTE, m.is_member) for m in moves]
    assert told == [(0, True), (2, False), (4, True)]


def test_who_may_enter_and_must_leave_stays_out() -> None:
    rules = load_rules(
        "{extends: none, segments: [{name: x, enter: events > 1, leave: events > 2}]}"
    )
    state = SegmentState(rules={0: rules})
    state, moves, _ = evaluate(state, frame([person("ann", MINUTE, events=3)]))
    assert list(moves) == []


def test_a_removed_segment_is_left_with_the_change_as_the_reason() -> None:
    state, _, _ = evaluate(begun(0), frame([person("ann", MINUTE, device_type="mobile")]))
    state, moves = changed(state, frame([person("ann", 2 * MINUTE)]), 0, rules_of(2))
    told = {(m.segment, m.is_member): m.reason for m in moves}
    assert told["mobile", False] == '{"change":"rule v2"}'
    assert told["aloof", True] == '{"change":"rule v2","engagement_score":null}'


def test_the_same_rules_again_move_nobody() -> None:
    state, _, _ = evaluate(begun(0), frame([person("ann", MINUTE, events=3)]))
    state, moves = changed(state, frame([person("ann", 2 * MINUTE, events=0)]), 0, rules_of(0))
    assert list(moves) == []


def test_counts_are_those_of_the_hour() -> None:
    rows = [
        person("ann", HOUR - MINUTE, events=3),
        person("ann", HOUR, events=3),
        person("bob", HOUR, events=3),
        person("ann", HOUR + MINUTE, events=0),
    ]
    state, _, counts = evaluate(begun(), frame(rows), [(0, HOUR)])
    assert counts == [Count(0, HOUR, "busy", 2), Count(0, HOUR, "mobile", 0)]
    assert state.members[0, "busy"] == 1


def test_partitions_have_rules_of_their_own() -> None:
    state = SegmentState(rules={0: rules_of(0), 1: rules_of(3)})
    rows = [person("ann", MINUTE), person("bob", MINUTE) | {"partition": 1}]
    _, moves, _ = evaluate(state, frame(rows))
    assert [(m.partition, m.user_id, m.segment) for m in moves] == [(1, "bob", "zero")]
