"""Records become rows."""

import json
from typing import Any

import polars as pl
import pytest

from streamgauge.schemas.events import FeedGenerated, PageView, Request
from streamgauge.schemas.records import DeadLetter, LateEvent
from streamgauge.sinks.postgres.sink import PostgresSink
from streamgauge.sinks.postgres.tables import (
    dead_letter_rows,
    late_event_rows,
    metric_keys,
    metric_rows,
    performance_rows,
)

NOON = 1_767_268_800_000


@pytest.fixture
def frame(message: Any, batch: Any) -> Any:
    """Records of a topic as the sink gets them, at offsets 5, 6, …"""

    def make(topic: str, *records: Any, key: str = "k") -> pl.DataFrame:
        messages = [message(topic, 2, 5 + i, record, key) for i, record in enumerate(records)]
        return batch(PostgresSink("", "s"), messages).frame

    return make


def test_a_grain_becomes_one_row_a_metric(frame: Any, update: Any) -> None:
    row = update(
        "a",
        1.0,
        metrics=("views", "time"),
        values=(3.0, 2.5),
        numerators=(3.0, 5.0),
        denominators=(1.0, 2.0),
    )
    rows = metric_rows(frame("metrics", row)).to_dicts()
    assert [(r["metric"], r["value"], r["numerator"], r["denominator"]) for r in rows] == [
        ("views", 3.0, 3.0, 1.0),
        ("time", 2.5, 5.0, 2.0),
    ]
    assert {(r["source_partition"], r["source_offset"], r["users"]) for r in rows} == {(2, 5, 3)}


def test_a_grain_without_observations_has_no_rows(frame: Any, update: Any) -> None:
    row = update("a", 1.0, metrics=(), values=(), numerators=(), denominators=())
    assert metric_rows(frame("metrics", row)).is_empty()


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        (r'{"a":"x\u0000y"}', {"a": "x\ufffdy"}),
        (r'{"a":"\u0000\u0000"}', {"a": "\ufffd\ufffd"}),
        (r'{"a":"\\u0000"}', {"a": r"\u0000"}),
        (r'{"a":"\\\u0000"}', {"a": "\\\ufffd"}),
        (r'{"a":"é|b"}', {"a": "é|b"}),
    ],
)
def test_what_postgres_refuses_in_json_is_replaced(
    frame: Any, update: Any, said: str, kept: dict[str, str]
) -> None:
    rows = metric_rows(frame("metrics", update("a", 1.0, dimensions=said)))
    assert json.loads(rows["dimensions"][0]) == kept


def test_times_beyond_every_calendar_are_clipped(frame: Any, update: Any) -> None:
    rows = metric_rows(frame("metrics", update("a", 1.0, window_start=2**62)))
    assert rows["window_start"][0] < 253_402_300_800_000


def test_a_key_tells_which_rows_a_tombstone_deletes() -> None:
    keys = pl.DataFrame(
        {"partition": [1], "offset": [9], "key": [b'1h|1767268800000|abcdef01|{"a":"x|y"}']}
    )
    assert metric_keys(keys).to_dicts() == [
        {
            "window_start": NOON,
            "window_size": "1h",
            "dimensions": '{"a":"x|y"}',
            "version": "abcdef01",
            "source_partition": 1,
            "source_offset": 9,
        }
    ]


def test_a_dead_letter_keeps_its_place_and_its_bytes(frame: Any) -> None:
    letter = DeadLetter(
        topic="ns.events",
        partition=3,
        offset=77,
        schema_id=None,
        reason="bad_header",
        detail="be\0gins",
        payload=b"\x00\xff",
        key=None,
        failed_at=NOON,
    )
    (row,) = dead_letter_rows(frame("dead-letters", letter, key="events/3/77")).to_dicts()
    assert (row["topic"], row["partition"], row["offset"]) == ("events", 3, 77)
    assert (row["source_partition"], row["source_offset"]) == (2, 5)
    assert (row["payload"], row["key"], row["detail"]) == ("\\x00ff", None, "be\ufffdgins")


def test_a_late_event_keeps_its_place_and_its_bytes(frame: Any) -> None:
    late = LateEvent(
        topic="events",
        partition=3,
        offset=77,
        event_id="e",
        event_type="page_view",
        user_id=None,
        timestamp=NOON - 5,
        watermark=NOON,
        schema_id=4,
        payload=b"x",
    )
    (row,) = late_event_rows(frame("late-events", late, key="events/3/77")).to_dicts()
    assert (row["topic"], row["partition"], row["offset"]) == ("events", 3, 77)
    assert (row["timestamp"], row["watermark"], row["payload"]) == (NOON - 5, NOON, "\\x78")


def request(**fields: Any) -> Request:
    return Request(**{"user_id": "u", "timestamp": NOON, "method_name": "list"} | fields)


def test_a_request_becomes_a_log_line(frame: Any) -> None:
    event = request(
        route="/x",
        status=500,
        duration_ms=1.5,
        response_size_bytes=9,
        cache_hit=True,
        error_type="oops",
        context={"region": "eu"},
    )
    (row,) = performance_rows(frame("events", event)).to_dicts()
    assert json.loads(row.pop("context")) == {"region": "eu", "route": "/x", "status": 500}
    assert row == {
        "created_at": NOON,
        "event_id": event.event_id,
        "method_name": "list",
        "duration_ms": 1.5,
        "user_id": "u",
        "response_size_bytes": 9,
        "cache_hit": True,
        "error_type": "oops",
        "source_partition": 2,
        "source_offset": 5,
    }


def test_the_making_of_a_feed_becomes_a_log_line(frame: Any) -> None:
    event = FeedGenerated(
        user_id="u", timestamp=NOON, generation_time_ms=80, item_count=20, interest_based=0.4
    )
    (row,) = performance_rows(frame("events", event)).to_dicts()
    assert (row["method_name"], row["duration_ms"]) == ("feed_generated", 80.0)
    assert json.loads(row["context"]) == {"item_count": 20, "interest_based": 0.4}


def test_a_call_that_says_nothing_more_has_no_context(frame: Any) -> None:
    assert performance_rows(frame("events", request()))["context"].to_list() == [None]


def test_other_events_are_no_log_lines(frame: Any) -> None:
    view = PageView(user_id="u", timestamp=NOON)
    assert len(performance_rows(frame("events", view, request()))) == 1


@pytest.mark.parametrize(
    ("consent", "default", "user"),
    [
        (True, "denied", "u"),
        (None, "granted", "u"),
        (None, "denied", None),
        (False, "granted", None),
    ],
)
def test_without_consent_the_user_stays_out(
    frame: Any, consent: bool | None, default: str, user: str | None
) -> None:
    rows = performance_rows(
        frame("events", request(consent_analytics=consent)), consent_default=default
    )
    assert rows["user_id"].to_list() == [user]


def test_an_event_from_the_future_is_not_believed(frame: Any) -> None:
    events = [request(timestamp=NOON + 300_000), request(timestamp=NOON + 300_001)]
    assert len(performance_rows(frame("events", *events))) == 1
