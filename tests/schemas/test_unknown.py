"""Types that nobody has declared: accepted as custom, kept as dead letters, or refused."""

from __future__ import annotations

from typing import Any

import pytest

from streamgauge.schemas.errors import InvalidEvent, SchemaError
from streamgauge.schemas.events import Custom, PageView, parse_event
from streamgauge.schemas.unknown import UnknownTypes

TIME = 1_700_000_000_000


def cart(**fields: Any) -> dict[str, Any]:
    return {"event_type": "cart", "user_id": "u", "timestamp": TIME, **fields}


def as_custom(obj: dict[str, Any]) -> Custom:
    event = parse_event(obj, UnknownTypes(default="custom"))
    assert isinstance(event, Custom)
    return event


def properties(event: Custom) -> dict[str, str | None]:
    return {one.key: one.value for one in event.properties or ()}


def test_the_first_pattern_that_fits_decides_and_the_default_the_rest() -> None:
    unknown = UnknownTypes.parse("shop_internal=dead-letter, shop_*=custom, reject")
    modes = [unknown.mode(name) for name in ("shop_internal", "shop_cart", "cart")]
    assert modes == ["dead-letter", "custom", "reject"]
    assert UnknownTypes.parse("").mode("cart") == "dead-letter"


@pytest.mark.parametrize("text", ["drop", "shop_*=keep", "custom=shop", "="])
def test_a_mode_that_there_is_not_is_told(text: str) -> None:
    with pytest.raises(SchemaError, match="one of custom, dead-letter, reject"):
        UnknownTypes.parse(text)


def test_as_custom_its_fields_are_properties_and_its_envelope_stays() -> None:
    event = as_custom(cart(page_url="/p", device="mobile", total=5.5, items=["a"]))
    assert (event.name, event.page_url, event.device_type) == ("cart", "/p", "mobile")
    assert properties(event) == {"total": "5.5", "items": '["a"]'}


@pytest.mark.parametrize(
    "shape",
    [
        {"name": "n", "properties": {"total": 5}},
        {"properties": {"name": "n", "total": 5}},
        {"name": "n", "properties": [{"key": "total", "value": "5"}]},
        {"name": "n", "total": 5},
    ],
)
def test_as_custom_a_name_of_its_own_is_a_property(shape: dict[str, Any]) -> None:
    event = as_custom(cart(**shape))
    assert event.name == "cart"
    assert properties(event) == {"name": "n", "total": "5"}


def test_as_custom_two_names_are_a_conflict() -> None:
    with pytest.raises(InvalidEvent) as refused:
        as_custom(cart(name="a", properties={"name": "b"}))
    assert refused.value.reason == "conflicting_field"


@pytest.mark.parametrize(("mode", "keep"), [("dead-letter", True), ("reject", False)])
def test_otherwise_it_is_refused_and_kept_or_not(mode: Any, keep: bool) -> None:
    with pytest.raises(InvalidEvent) as refused:
        parse_event(cart(), UnknownTypes(default=mode))
    assert (refused.value.reason, refused.value.keep) == ("unknown_type", keep)


@pytest.mark.parametrize("name", [None, "", 5, ["cart"]])
def test_what_names_no_type_is_kept_in_any_mode(name: Any) -> None:
    for mode in ("custom", "reject"):
        with pytest.raises(InvalidEvent) as refused:
            parse_event(cart() | {"event_type": name}, UnknownTypes.parse(mode))
        assert refused.value.keep


def test_known_types_are_as_ever() -> None:
    unknown = UnknownTypes(default="custom")
    assert isinstance(parse_event(cart() | {"event_type": "page_view"}, unknown), PageView)
    with pytest.raises(InvalidEvent, match="colour"):
        parse_event(cart(colour="red") | {"event_type": "page_view"}, unknown)
