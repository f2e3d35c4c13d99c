"""Events from JSON: every accepted shape, and a clear refusal of the rest."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from streamgauge.schemas.errors import InvalidEvent
from streamgauge.schemas.events import EVENT_TYPES, Custom, Event, parse_event

BASE = {"user_id": "u", "timestamp": "2026-01-31T12:00:00Z"}


def parse(**fields: Any) -> Event:
    return parse_event(BASE | fields)


def refusal(obj: Any) -> InvalidEvent:
    with pytest.raises(InvalidEvent) as refused:
        parse_event(obj)
    return refused.value


def pairs(event: Event) -> list[tuple[str, str | None]]:
    assert isinstance(event, Custom)
    return [(pair.key, pair.value) for pair in event.properties or ()]


def test_flat_and_nested_fields_are_the_same_event() -> None:
    own = {"quiz_id": "q1", "score": "7.5", "total_questions": "10", "time_taken": 61}
    flat = parse(event_type="quiz_attempt", event_id="e", **own)
    nested = parse(event_type="quiz_attempt", event_id="e", properties=own)
    assert flat == nested
    assert flat.model_dump(include=set(own)) == {
        "quiz_id": "q1",
        "score": 7.5,
        "total_questions": 10,
        "time_taken": 61.0,
    }


def test_envelope_fields_may_be_nested_as_well() -> None:
    assert parse(event_type="page_view", properties={"page_url": "/a"}).page_url == "/a"


def test_the_same_value_twice_is_no_conflict_but_another_is() -> None:
    both = {"event_type": "page_view", "page_url": "/a", "properties": {"page_url": "/a"}}
    assert parse(**both).page_url == "/a"
    assert refusal(BASE | both | {"page_url": "/b"}).reason == "conflicting_field"


def test_device_is_the_device_type() -> None:
    assert parse(event_type="page_view", device="Mobile").device_type == "mobile"


@pytest.mark.parametrize(
    "consent", [{"consent": {"analytics": False}}, {"consent_analytics": False}]
)
def test_consent_is_nested_or_flat(consent: dict[str, Any]) -> None:
    event = parse(event_type="page_view", **consent)
    assert event.consent_analytics is False
    assert event.consent_marketing is None


def test_session_is_optional_and_an_anonymous_id_is_enough() -> None:
    event = parse_event({"event_type": "identify", "anonymous_id": "a", "timestamp": 5})
    assert (event.user_key, event.session_id, event.timestamp) == ("a", None, 5)


def test_custom_takes_properties_as_object_or_as_pairs() -> None:
    listed = [{"key": "a", "value": "1"}, {"key": "b"}]
    assert pairs(parse(event_type="custom", name="n", properties=listed)) == [
        ("a", "1"),
        ("b", None),
    ]
    nested = parse(event_type="custom", name="n", properties={"a": 1, "b": None})
    assert pairs(nested) == [("a", "1"), ("b", None)]


def test_custom_keeps_fields_that_nobody_knows_as_properties() -> None:
    event = parse(event_type="custom", name="n", plan={"seats": 3}, properties=[{"key": "a"}])
    assert pairs(event) == [("a", None), ("plan", '{"seats":3}')]


def test_custom_may_have_its_name_among_the_properties() -> None:
    event = parse(event_type="custom", properties={"name": "n", "a": "1"})
    assert isinstance(event, Custom)
    assert event.name == "n"
    assert pairs(event) == [("a", "1")]


@pytest.mark.parametrize(
    ("obj", "reason", "field", "message"),
    [
        ([], "not_an_object", None, "an event is an object, not list"),
        (None, "not_an_object", None, "not null"),
        (BASE, "missing_field", "event_type", "names its type"),
        (
            BASE | {"event_type": "page_vew"},
            "unknown_type",
            "event_type",
            "did you mean page_view?",
        ),
        (BASE | {"event_type": 5}, "unknown_type", "event_type", "use custom, or add a type"),
        (
            BASE | {"event_type": "page_view", "properties": {"titel": "x"}},
            "unknown_field",
            "titel",
            "titel is no field of PageView (did you mean title?)",
        ),
        (
            BASE | {"event_type": "page_view", "consent": True},
            "unknown_field",
            "consent",
            "no field",
        ),
        (
            BASE | {"event_type": "page_view", "consent": {"personalization": True}},
            "unknown_field",
            "consent_personalization",
            "did you mean consent_personalisation?",
        ),
        ({"event_type": "page_view", "user_id": "u"}, "missing_field", "timestamp", "when"),
        (
            {"event_type": "page_view", "timestamp": 5},
            "missing_user",
            None,
            "user_id or an anonymous",
        ),
        (
            BASE | {"event_type": "page_view", "timestamp": "soon"},
            "wrong_value",
            "timestamp",
            "'soon'",
        ),
        (BASE | {"event_type": "page_view", "timestamp": -5}, "out_of_range", "timestamp", "-5"),
        (
            BASE | {"event_type": "learning_session", "completion_rate": 2},
            "out_of_range",
            "completion_rate",
            "less than or equal to 1",
        ),
        (
            BASE | {"event_type": "experiment_exposure"},
            "missing_field",
            "experiment_id",
            "required",
        ),
        (
            BASE | {"event_type": "custom", "name": "n", "properties": 5, "x": 1},
            "wrong_value",
            "properties",
            "int",
        ),
        (
            BASE | {"event_type": "custom", "name": "n", "properties": 5},
            "wrong_value",
            "properties",
            "5",
        ),
        (BASE | {"event_type": "page_view", "title": "\ud800"}, "wrong_value", "title", "unicode"),
    ],
)
def test_refusals_name_reason_field_and_value(
    obj: Any, reason: str, field: str | None, message: str
) -> None:
    error = refusal(obj)
    assert (error.reason, error.field) == (reason, field)
    assert message in error.message
    assert str(error).startswith(field or "")


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
names = st.sampled_from(["consent", "properties", "name", "device", "timestamp", "user_id", "x"])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(names, json), st.sampled_from(sorted(EVENT_TYPES)))
def test_any_json_is_an_event_or_a_refusal(fields: dict[str, Any], event_type: str) -> None:
    try:
        event = parse_event({"timestamp": 5, "user_id": "u", **fields, "event_type": event_type})
    except InvalidEvent:
        return
    assert event.event_type == event_type
