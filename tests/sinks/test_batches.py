"""Messages become batches."""

from typing import Any

import pytest

from streamgauge.schemas.errors import RegistryError
from streamgauge.schemas.events import PageView, Request
from streamgauge.sinks.batches import Batches
from streamgauge.sinks.postgres.sink import PostgresSink
from streamgauge.sinks.sink import Range

NOON = 1_767_268_800_000
SPANS = {0: Range(start=0, end=9)}


@pytest.fixture
def batches(registry: Any) -> Batches:
    return Batches("postgres", PostgresSink("", "s"), registry)


def test_rows_tombstones_and_what_cannot_be_read_are_told_apart(
    batches: Batches, message: Any, update: Any, caplog: pytest.LogCaptureFixture
) -> None:
    made = batches.make(
        "metrics",
        [
            message("metrics", 0, 0, update("a", 1.0), "a"),
            message("metrics", 0, 1, None, "b"),
            message("metrics", 0, 2, b"garbage", "c"),
        ],
        SPANS,
    )
    assert made.frame["message_key"].to_list() == [b"a"]
    assert made.tombstones.rows() == [(0, 1, b"b")]
    assert made.reasons == {2: "bad_header"}
    assert made.ranges == SPANS
    assert "the first, 0/2: bad_header" in caplog.text


def test_only_the_types_that_the_sink_takes_are_decoded(
    batches: Batches, message: Any, caplog: pytest.LogCaptureFixture
) -> None:
    made = batches.make(
        "events",
        [
            message("events", 0, 0, PageView(user_id="u", timestamp=NOON)),
            message("events", 0, 1, Request(user_id="u", timestamp=NOON)),
            message("events", 0, 2, None),
            message("events", 0, 3, b"garbage"),
            message("events", 0, 4, b"\0\0\0\xff\xff"),
        ],
        SPANS,
    )
    assert made.frame["offset"].to_list() == [1]
    assert made.reasons == {}
    assert caplog.text == ""  # the worker has told


def test_nothing_is_a_batch_too(batches: Batches) -> None:
    made = batches.make("metrics", [], SPANS)
    assert made.frame.is_empty()
    assert made.ranges == SPANS


def test_a_registry_that_is_out_is_an_outage_and_not_a_reject(
    batches: Batches, message: Any, monkeypatch: pytest.MonkeyPatch, update: Any
) -> None:
    def out(_: int) -> Any:
        raise RegistryError("no answer", retryable=True)

    row = message("metrics", 0, 0, update("a", 1.0), "a")
    monkeypatch.setattr(batches._registry, "schema", out)
    with pytest.raises(RegistryError):
        batches.make("metrics", [row], SPANS)
    monkeypatch.undo()
    assert len(batches.make("metrics", [row], SPANS).frame) == 1
