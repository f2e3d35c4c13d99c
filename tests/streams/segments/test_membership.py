"""State that comes back: from the changelog, from a snapshot, after an abort."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgauge.schemas.codec import Codec
from streamgauge.schemas.records import Control
from streamgauge.schemas.registry import Registry, open_registry
from streamgauge.schemas.segments import load_rules
from streamgauge.streams.segments.membership import Membership

MINUTE, HOUR = 60_000, 3_600_000
START = """
extends: none
segments:
  - {name: busy, enter: events >= 3, leave: events < 2}
  - {name: calm, enter: events < 1}
"""
LATER = """
extends: none
segments:
  - {name: awake, enter: events >= 1}
  - {name: busy, enter: events >= 2, leave: events < 1}
"""
SCHEMA = {"partition": pl.Int32, "user_key": pl.String, "minute": pl.Int64, "events": pl.Int64}
Topic = dict[int, list[tuple[bytes, bytes | None]]]


@pytest.fixture(scope="module")
def registry() -> Registry:
    return open_registry("mock://segments")


def membership(registry: Registry) -> Membership:
    return Membership(registry, load_rules(START))


def frame(
    at: int, known: dict[tuple[int, str], int], *, partition: int | None = None
) -> pl.DataFrame:
    rows = [(p, user, at, n) for (p, user), n in known.items() if partition in (None, p)]
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


def commit(one: Membership, topics: dict[str, Topic]) -> None:
    for output in one.flush():
        for key, value, partition in output.rows():
            assert key is not None
            topics.setdefault(output.topic, defaultdict(list))[partition].append((key, value))
    one.commit()


def from_changelog(registry: Registry, topics: dict[str, Topic]) -> Membership:
    one = membership(registry)
    for partition, rows in topics.get("user-segments", {}).items():
        for at in range(0, len(rows), 3):
            keys, values = zip(*rows[at : at + 3], strict=True)
            one.restore(list(keys), list(values), partition)
    one.restored()
    return one


def from_snapshot(registry: Registry, old: Membership) -> Membership:
    snapshot, one = old.snapshot(), membership(registry)
    for partition in (0, 1):
        one.load(partition, memoryview(snapshot(partition)))
    one.restored()
    return one


steps = st.lists(
    st.tuples(
        st.dictionaries(
            st.tuples(st.integers(0, 1), st.sampled_from(["ann", "bob", "ü|x"])),
            st.integers(0, 4),
        ),
        st.sampled_from(["go on", "restart", "checkpoint", "abort", "rules", "move"]),
    ),
    max_size=10,
)


@settings(max_examples=25, deadline=None)
@given(steps)
def test_what_is_told_is_the_same_through_restarts(
    given_: list[tuple[dict[tuple[int, str], int], str]],
) -> None:
    registry = open_registry("mock://segments")
    told = [_run(registry, given_, disturbed) for disturbed in (False, True)]
    assert told[0] == told[1]


def _run(
    registry: Registry,
    given_: list[tuple[dict[tuple[int, str], int], str]],
    disturbed: bool,
) -> dict[str, Any]:
    one, topics = membership(registry), dict[str, Topic]()
    known: dict[tuple[int, str], int] = {}
    for number, (news, then) in enumerate(given_):
        known |= news
        at = (number + 1) * MINUTE
        if disturbed and then == "abort":
            one.round(frame(at, known))
            list(one.flush())
            one.abort()
        one.round(frame(at, news), [(0, at)])
        if then == "rules":
            control = Control(kind="segments", name="rules", version=2, body=as_body(LATER))
            for partition in (0, 1):
                one.change(control, partition, frame(at + 5, known, partition=partition))
        commit(one, topics)
        if disturbed and then == "restart":
            one = from_changelog(registry, topics)
        if disturbed and then == "checkpoint":
            one = from_snapshot(registry, one)
        if disturbed and then == "move":
            one.revoke({1})
            rows = topics.get("user-segments", {}).get(1, [])
            one.restore([key for key, _ in rows], [value for _, value in rows], 1)
            one.restored()
    return topics


def as_body(text: str) -> str:
    return load_rules(text).body()


def decoded(registry: Registry, topics: dict[str, Topic], topic: str) -> list[dict[str, Any]]:
    codec = Codec(registry)
    rows = [value for rows in topics[topic].values() for _, value in rows if value]
    return [dict(codec.decode(value).record) for value in rows]


def test_rules_a_partition_began_with_stay_in_force_whatever_the_worker_is_started_with(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    one, topics = membership(registry), dict[str, Topic]()
    one.round(frame(MINUTE, {(0, "ann"): 3}))
    commit(one, topics)
    again = Membership(registry, load_rules(LATER))
    (rows,) = topics["user-segments"].values()
    again.restore([key for key, _ in rows], [value for _, value in rows], 0)
    again.restored()
    assert "segments apply" in caplog.text
    again.round(frame(2 * MINUTE, {(0, "ann"): 2}))
    assert list(again.flush()) == []


def test_wrong_rules_change_nothing_and_stop_nobody(
    registry: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    one = membership(registry)
    everybody = frame(MINUTE, {(0, "ann"): 3})
    one.round(everybody)
    one.commit()
    body = json.dumps({"extends": "none", "segments": [{"name": "x", "enter": "evnts > 1"}]})
    one.change(Control(kind="segments", name="rules", version=4, body=body), 0, everybody)
    one.change(Control(kind="segments", name="rules", version=5, body=None), 0, everybody)
    assert "did you mean events?" in caplog.text
    assert list(one.flush()) == []


def test_changed_rules_are_told_once_with_their_version_as_the_reason(registry: Registry) -> None:
    one, topics = membership(registry), dict[str, Topic]()
    everybody = frame(MINUTE, {(0, "ann"): 2, (0, "bob"): 0})
    one.round(everybody)
    control = Control(kind="segments", name="rules", version=7, body=as_body(LATER))
    one.change(control, 0, frame(MINUTE + 1, {(0, "ann"): 2, (0, "bob"): 0}))
    one.change(control, 0, frame(MINUTE + 2, {(0, "ann"): 2, (0, "bob"): 0}))
    commit(one, topics)
    rows = [row for row in decoded(registry, topics, "user-segments") if "user_id" in row]
    told = [(row["user_id"], row["segment"], row["reason_in"], row["reason_out"]) for row in rows]
    because = '{"change":"rule v7","events":%d}'
    assert told == [
        ("bob", "calm", '{"events":0}', None),
        ("ann", "awake", because % 2, None),
        ("ann", "busy", because % 2, None),
        ("bob", "calm", None, '{"change":"rule v7"}'),
    ]


def test_hours_are_counted_by_partition(registry: Registry) -> None:
    one, topics = membership(registry), dict[str, Topic]()
    one.round(frame(HOUR, {(0, "ann"): 3, (0, "bob"): 3, (1, "cid"): 0}), [(0, HOUR), (1, HOUR)])
    commit(one, topics)
    rows = decoded(registry, topics, "segment-counts")
    counted = [(row["segment"], row["at"], row["members"]) for row in rows]
    assert counted == [("busy", HOUR, 2), ("calm", HOUR, 0), ("busy", HOUR, 0), ("calm", HOUR, 1)]


def test_what_was_committed_by_another_is_computed_and_not_told(registry: Registry) -> None:
    one = membership(registry)
    one.round(frame(MINUTE, {(0, "ann"): 3}), quiet=True)
    assert [output.keys for output in one.flush()] == [[b"rules"]]
    one.commit()
    one.round(frame(2 * MINUTE, {(0, "ann"): 1}))
    (moves,) = one.flush()
    assert list(moves.keys) == [b"ann|busy"]
