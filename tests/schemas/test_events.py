"""Event types: the fields of the requirements, coercion, ranges, types of one's own."""

from __future__ import annotations

import os
import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Literal

import pytest
from pydantic import ValidationError

from streamgauge.schemas.derivation import avro_schema
from streamgauge.schemas.envelope import COLUMNS, to_millis, uuid7
from streamgauge.schemas.errors import SchemaError
from streamgauge.schemas.events import (
    EVENT_TYPES,
    Custom,
    Event,
    LearningSession,
    PageView,
    Playback,
    Request,
    Search,
    TaskUpdate,
)

ENVELOPE = (
    "event_id event_type user_id anonymous_id session_id timestamp received_at page_url referrer"
    " device_type screen_size connection_speed os browser country app_version consent_analytics"
    " consent_personalisation consent_marketing bot"
)

OWN = {
    "page_view": "title method status response_size_bytes",
    "course_interaction": "course_id action duration content_type",
    "learning_session": "duration completion_rate content_type",
    "quiz_attempt": "quiz_id score total_questions time_taken",
    "search": "query results_count filters",
    "button_click": "element_id",
    "link_click": "element_id",
    "form_submit": "element_id",
    "feed_generated": "generation_time_ms cache_hit item_count personal_connections interest_based",
    "feed_view": "section item_id content_type position genre creator_id source published_at"
    " exploration",
    "feed_click": "section item_id content_type position genre creator_id source published_at"
    " exploration",
    "content_interaction": "content_id content_type action session_duration",
    "playback": "item_id series_id episode action position_ms duration_ms quality genre creator_id"
    " published_at exploration",
    "rating": "item_id score",
    "task_update": "task_id action task_status priority due_date",
    "request": "method_name route status duration_ms response_size_bytes cache_hit error_type"
    " context",
    "experiment_exposure": "experiment_id variant",
    "identify": "",
    "consent_change": "",
    "custom": "name properties",
}


@pytest.fixture
def own_type() -> Any:
    """Takes out again what a test registers."""
    types, columns = dict(EVENT_TYPES), dict(COLUMNS)
    yield
    EVENT_TYPES.clear()
    EVENT_TYPES.update(types)
    COLUMNS.clear()
    COLUMNS.update(columns)


def test_built_in_types_are_those_of_the_requirements() -> None:
    assert OWN.keys() <= EVENT_TYPES.keys()


@pytest.mark.parametrize("event_type", OWN)
def test_each_type_has_the_envelope_and_its_own_fields(event_type: str) -> None:
    fields = list(EVENT_TYPES[event_type].model_fields)
    assert fields == f"{ENVELOPE} {OWN[event_type]}".split()


def test_ids_and_time_come_by_themselves() -> None:
    one, other = PageView(user_id="u"), PageView(user_id="u")
    assert one.event_id != other.event_id
    assert abs(one.timestamp - datetime.now(UTC).timestamp() * 1000) < 60_000


@pytest.mark.parametrize("given", [{}, {"user_id": ""}, {"user_id": None, "anonymous_id": ""}])
def test_an_event_without_any_user_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="needs a user_id or an anonymous_id"):
        PageView(**given)


def test_user_key_is_the_user_id_or_the_anonymous_id() -> None:
    assert PageView(user_id="u", anonymous_id="a").user_key == "u"
    assert PageView(anonymous_id="a").user_key == "a"


def test_numbers_become_text_where_text_is_wanted() -> None:
    assert PageView(user_id=17).user_id == "17"  # type: ignore[arg-type]
    assert Playback(user_id="u", episode=3).episode == "3"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cls", "field", "value"),
    [
        (PageView, "device_type", "fridge"),
        (PageView, "timestamp", 0),
        (PageView, "timestamp", 7_258_118_400_000),
        (PageView, "status", 2**63),
        (PageView, "response_size_bytes", -1),
        (PageView, "title", "x" * 65_537),
        (PageView, "title", "\ud800"),
        (PageView, "event_id", ""),
        (LearningSession, "completion_rate", 1.01),
        (LearningSession, "duration", float("nan")),
        (Playback, "quality", "8k"),
        (Request, "context", "text"),
        (Custom, "name", ""),
    ],
)
def test_values_out_of_range_are_refused(cls: Any, field: str, value: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        cls(
            **{"user_id": "u", "name": "n", field: value}
            if cls is Custom
            else {"user_id": "u", field: value}
        )
    assert refused.value.errors()[0]["loc"] == (field,)


def test_case_does_not_matter_in_choices() -> None:
    event = Playback(user_id="u", device_type=" TV ", quality="4K", action="Start")  # type: ignore[arg-type]
    assert (event.device_type, event.quality, event.action) == ("tv", "4k", "start")


def test_a_mapping_becomes_pairs_with_json_for_what_is_no_text() -> None:
    filters: Any = {"a": "x", "b": None, "c": {"d": [1, 2]}, "e": True}
    pairs = Search(user_id="u", filters=filters).filters
    assert pairs is not None
    assert [(pair.key, pair.value) for pair in pairs] == [
        ("a", "x"),
        ("b", None),
        ("c", '{"d":[1,2]}'),
        ("e", "true"),
    ]


def test_a_tasks_status_has_a_name_of_its_own() -> None:
    for name in ("status", "task_status"):
        event = TaskUpdate.model_validate({"user_id": "u", name: "done"})
        assert event.task_status == "done"


@pytest.mark.parametrize(
    ("given", "millis"),
    [
        ("1760011300000", 1_760_011_300_000),  # not a day in 1760
        (" 1760011300000.9", 1_760_011_300_000),
        (1_700_000_000_123, 1_700_000_000_123),
        (1_700_000_000_123.9, 1_700_000_000_123),
        ("1700000000123", 1_700_000_000_123),
        ("2023-11-14T22:13:20.123Z", 1_700_000_000_123),
        ("2023-11-14T22:13:20.123999", 1_700_000_000_123),
        ("2023-11-15 00:13:20.123+02:00", 1_700_000_000_123),
        ("2023-11-15", 1_700_006_400_000),
        (datetime(2023, 11, 14, 22, 13, 20), 1_700_000_000_000),
        (
            datetime(2023, 11, 14, 23, 13, 20, tzinfo=timezone(timedelta(hours=1))),
            1_700_000_000_000,
        ),
    ],
)
def test_times_in_all_accepted_forms(given: Any, millis: int) -> None:
    assert to_millis(given) == millis


@pytest.mark.parametrize("given", ["yesterday", "", True, None, [1], float("inf"), "nan"])
def test_what_is_no_time_is_refused(given: Any) -> None:
    with pytest.raises(ValidationError):
        PageView(user_id="u", timestamp=given)


def test_uuid7_is_a_uuid_of_version_7_that_sorts_by_time() -> None:
    ids = [uuid7() for _ in range(1000)]
    assert len(set(ids)) == 1000
    assert {(uuid.UUID(i).version, uuid.UUID(i).variant) for i in ids} == {(7, uuid.RFC_4122)}
    assert [i[:13] for i in ids] == sorted(i[:13] for i in ids)


def test_forked_processes_draw_different_ids() -> None:
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        os.write(write, "".join(uuid7()[15:] for _ in range(50)).encode())
        os._exit(0)
    ours = {uuid7()[15:] for _ in range(50)}
    os.waitpid(pid, 0)
    theirs = os.read(read, 10_000).decode()
    assert not {theirs[i : i + 21] for i in range(0, len(theirs), 21)} & ours


def test_a_subclass_is_a_new_type(own_type: None) -> None:
    class Signup(Event):
        event_type: Literal["signup"] = "signup"
        plan: str | None = None

    assert EVENT_TYPES["signup"] is Signup
    assert avro_schema(Signup)["fields"][-1]["name"] == "plan"


def test_a_subclass_must_say_its_type(own_type: None) -> None:
    with pytest.raises(SchemaError, match="does not say its type"):

        class Nameless(Event):
            plan: str | None = None


def test_two_classes_cannot_be_one_type(own_type: None) -> None:
    with pytest.raises(SchemaError, match="page_view is already PageView"):

        class View(Event):
            event_type: Literal["page_view"] = "page_view"


def test_a_field_has_one_type_in_all_events(own_type: None) -> None:
    with pytest.raises(SchemaError, match=r"Coded\.status is .*string.*give it that type"):

        class Coded(Event):
            event_type: Literal["coded"] = "coded"
            status: str | None = None

    assert "coded" not in EVENT_TYPES
