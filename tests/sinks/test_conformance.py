"""What every sink promises (`sinks/sink.py`), on real targets.

Timelines: numbers are offsets of partition 0, `|` is where a batch ends.
"""

from typing import Any

import pytest

from streamgauge.sinks.errors import Fenced, Retryable, Rewound
from streamgauge.sinks.sink import Batch, Log, Range, Sink

LOG = Log(cluster_id="c", topic_id="t")


def take(target: Any, sink: Sink, *partitions: int, log: Log = LOG) -> dict[int, int | None]:
    found = sink.open({(target.topic, p): log for p in partitions or (0,)})
    return {p: offset for (_, p), offset in found.items()}


def test_a_new_target_is_read_from_the_beginning(target: Any) -> None:
    assert take(target, target.sink(), 0, 1) == {0: None, 1: None}


def test_rows_are_there_and_a_successor_resumes_behind_them(target: Any) -> None:
    # 0 1 | 2 |        partition 1: 7 |
    first = target.sink("a")
    take(target, first, 0, 1)
    first.write(target.batch(0, 0, ("a", 1.0), ("b", 2.0)))
    first.write(target.batch(1, 7, ("c", 3.0)))
    first.write(target.batch(0, 2, ("d", 4.0)))
    first.close()
    assert target.contents() == {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}
    assert take(target, target.sink("b"), 0, 1) == {0: 3, 1: 8}


def test_the_newest_row_of_a_key_wins(target: Any) -> None:
    sink = target.sink()
    take(target, sink)
    sink.write(target.batch(0, 0, ("a", 1.0), ("b", 1.0)))
    sink.write(target.batch(0, 2, ("a", 5.0)))
    assert target.contents() == {"a": 5.0, "b": 1.0}


def test_a_tombstone_deletes(target: Any) -> None:
    if not target.keyed:
        pytest.skip("events have no tombstones")
    sink = target.sink()
    take(target, sink)
    sink.write(target.batch(0, 0, ("a", 1.0), ("b", 2.0)))
    sink.write(target.batch(0, 2, ("a", None)))
    assert target.contents() == {"b": 2.0}


def test_a_zombie_is_fenced_and_writes_nothing(target: Any) -> None:
    zombie, owner = target.sink("a"), target.sink("b")
    take(target, zombie)
    zombie.write(target.batch(0, 0, ("a", 1.0)))
    assert take(target, owner) == {0: 1}
    with pytest.raises(Fenced):
        zombie.write(target.batch(0, 1, ("a", 99.0), ("x", 99.0)))
    assert target.contents() == {"a": 1.0}
    owner.write(target.batch(0, 1, ("a", 2.0)))
    assert target.contents() == {"a": 2.0}


def test_an_empty_batch_tells_the_zombie_from_the_owner(target: Any) -> None:
    zombie, owner = target.sink("a"), target.sink("b")
    take(target, zombie)
    zombie.write(target.batch(0, 0, ("a", 1.0)))
    take(target, owner)
    empty = target.batch(0, 0, ("a", 1.0))
    empty = Batch(topic=target.topic, ranges={0: Range(start=1, end=1)}, frame=empty.frame.clear())
    owner.write(empty)
    with pytest.raises(Fenced):
        zombie.write(empty)


def test_a_torn_write_leaves_nothing_and_can_be_repeated(
    target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = target.sink()
    take(target, sink)
    sink.write(target.batch(0, 0, ("a", 1.0)))
    second = target.batch(0, 1, ("a", 2.0), ("b", 2.0))
    target.fail(monkeypatch, sink, before=True)
    with pytest.raises(Retryable):
        sink.write(second)
    assert target.contents() == {"a": 1.0}
    sink.write(second)
    assert target.contents() == {"a": 2.0, "b": 2.0}
    assert take(target, target.sink("b")) == {0: 3}


def test_a_successor_resumes_before_a_torn_write(
    target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = target.sink()
    take(target, sink)
    sink.write(target.batch(0, 0, ("a", 1.0)))
    target.fail(monkeypatch, sink, before=True)
    with pytest.raises(Retryable):
        sink.write(target.batch(0, 1, ("b", 2.0)))
    successor = target.sink("b")
    assert take(target, successor) == {0: 1}
    successor.write(target.batch(0, 1, ("b", 2.0), ("c", 3.0)))
    assert target.contents() == {"a": 1.0, "b": 2.0, "c": 3.0}


def test_a_write_whose_answer_was_lost_counts_once(
    target: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = target.sink()
    take(target, sink)
    first = target.batch(0, 0, ("a", 1.0))
    target.fail(monkeypatch, sink, before=False)
    with pytest.raises(Retryable):
        sink.write(first)
    # Tried again: it is known to be there, or the sink is not sure, and is opened again.
    try:
        sink.write(first)
    except Rewound:
        assert take(target, sink) == {0: 1}
    sink.write(target.batch(0, 1, ("b", 2.0)))
    assert target.contents() == {"a": 1.0, "b": 2.0}


def test_a_replay_from_the_beginning_leaves_the_same(target: Any) -> None:
    sink = target.sink()
    take(target, sink)
    batches = [
        target.batch(0, 0, ("a", 1.0), ("b", 2.0)),
        target.batch(0, 2, ("a", 3.0)),
    ]
    for batch in batches:
        sink.write(batch)
    before = target.contents()
    target.lose_everything()
    with pytest.raises((Rewound, Fenced)):
        sink.write(target.batch(0, 3, ("z", 9.0)))
    assert take(target, sink) == {0: None}
    for batch in batches:
        sink.write(batch)
    assert target.contents() == before == {"a": 3.0, "b": 2.0}


def test_a_topic_made_anew_is_read_from_its_beginning(target: Any) -> None:
    old = target.sink()
    take(target, old)
    old.write(target.batch(0, 0, ("a", 1.0), ("b", 1.0)))
    new = target.sink("b")
    assert take(target, new, log=Log(cluster_id="c", topic_id="another")) == {0: None}
    new.write(target.batch(0, 0, ("a", 2.0)))
    assert target.contents()["a"] == 2.0
    assert take(target, target.sink("c"), log=Log(cluster_id="c", topic_id="another")) == {0: 1}


def test_offsets_without_records_are_passed(target: Any) -> None:
    # 0 | (1 is a transaction's marker) | 2 |
    sink = target.sink()
    take(target, sink)
    sink.write(target.batch(0, 0, ("a", 1.0)))
    only_markers = Batch(
        topic=target.topic,
        ranges={0: Range(start=1, end=2)},
        frame=target.batch(0, 0, ("a", 1.0)).frame.clear(),
    )
    sink.write(only_markers)
    sink.write(target.batch(0, 2, ("b", 2.0)))
    assert target.contents() == {"a": 1.0, "b": 2.0}
    assert take(target, target.sink("b")) == {0: 3}


def test_several_partitions_move_in_one_write(target: Any, batch: Any) -> None:
    sink = target.sink()
    take(target, sink, 0, 1, 2)
    parts = [target.batch(p, 0, (f"p{p}", float(p))) for p in (0, 1, 2)]
    sink.write(batch(sink, [m for part in parts for m in part.messages]))
    assert target.contents() == {"p0": 0.0, "p1": 1.0, "p2": 2.0}
    assert take(target, target.sink("b"), 0, 1, 2) == {0: 1, 1: 1, 2: 1}
    assert take(target, target.sink("c")) == {0: 1}


def test_closing_twice_is_fine(target: Any) -> None:
    sink = target.sink()
    take(target, sink)
    sink.close()
    sink.close()
