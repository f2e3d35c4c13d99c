"""What is kept between two writes."""

from typing import Any

from confluent_kafka import Message
from hypothesis import given
from hypothesis import strategies as st

from streamgauge.sinks.buffer import Buffer


def test_of_a_compacted_topic_the_newest_of_each_key_is_kept(message: Any) -> None:
    # key   a b a    and a of another partition
    buffer = Buffer()
    for partition, offset, value, key in [
        (0, 0, b"1", "a"),
        (0, 1, b"2", "b"),
        (0, 2, b"three", "a"),
        (1, 0, b"4", "a"),
    ]:
        buffer.add("metrics", [message("metrics", partition, offset, value, key)])
    assert sorted(m.value() for m in buffer.messages("metrics")) == [b"2", b"4", b"three"]
    assert (buffer.rows, buffer.bytes) == (3, 7)


def test_of_any_other_topic_everything_is_kept(message: Any) -> None:
    buffer = Buffer()
    buffer.add("events", [message("events", 0, i, b"x", "a") for i in range(3)])
    assert [m.offset() for m in buffer.messages("events")] == [0, 1, 2]
    assert (buffer.rows, buffer.bytes) == (3, 3)


def test_who_wants_every_record_gets_it(message: Any) -> None:
    buffer = Buffer(every=True)
    buffer.add("anomalies", [message("anomalies", 0, i, b"x", "a") for i in range(3)])
    assert [m.offset() for m in buffer.messages("anomalies")] == [0, 1, 2]


def test_a_tombstone_overtakes_its_row(message: Any) -> None:
    buffer = Buffer()
    buffer.add(
        "metrics", [message("metrics", 0, 0, b"1", "a"), message("metrics", 0, 1, None, "a")]
    )
    assert [m.value() for m in buffer.messages("metrics")] == [None]
    assert buffer.bytes == 0


def test_cleared_it_is_empty(message: Any) -> None:
    buffer = Buffer()
    buffer.add("metrics", [message("metrics", 0, 0, b"1", "a")])
    buffer.add("events", [message("events", 0, 0, b"1", "a")])
    buffer.clear()
    assert (buffer.rows, buffer.bytes) == (0, 0)
    assert buffer.messages("metrics") == buffer.messages("events") == []


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abc"), st.integers(0, 9))))
def test_however_it_is_cut_the_newest_is_what_a_dict_says(rows: Any) -> None:
    buffer = Buffer()
    oracle = {}
    for offset, (partition, key, size) in enumerate(rows):
        oracle[partition, key] = offset
        buffer.add(
            "metrics",
            [Message(partition=partition, offset=offset, key=key.encode(), value=b"x" * size)],
        )
    assert {
        (m.partition(), m.key().decode()): m.offset() for m in buffer.messages("metrics")
    } == oracle
    assert buffer.bytes == sum(map(len, buffer.messages("metrics")))
