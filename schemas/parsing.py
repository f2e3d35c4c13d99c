"""Events from JSON, in every accepted shape, or a clear refusal.

Upstream: `produce --file`, the collector. Downstream: the SDK's producer.

Accepted: fields flat, or the type's own nested under `properties`; timestamps in ISO 8601 or
milliseconds; `device` for device_type; consent flat or as `consent: {analytics: true}`. A type that
nobody has declared is what `unknown.py` says it is.
Invariant: parse_event raises nothing but InvalidEvent, whose reason is a stable code.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from pydantic import ValidationError

from streamgauge.schemas.envelope import EVENT_TYPES, Event
from streamgauge.schemas.errors import InvalidEvent
from streamgauge.schemas.unknown import KEPT, UnknownTypes

RENAMED = {"device": "device_type"}

MAX_NAME = 64
"""Characters of a name that is compared with those we know."""

REASONS = {
    "missing": "missing_field",
    "missing_user": "missing_user",
    "extra_forbidden": "unknown_field",
    "greater_than": "out_of_range",
    "greater_than_equal": "out_of_range",
    "less_than": "out_of_range",
    "less_than_equal": "out_of_range",
    "string_too_long": "out_of_range",
}
"""Reason codes by pydantic's error types; all others are wrong_value."""


def parse_event(obj: Mapping[str, Any], unknown: UnknownTypes = KEPT) -> Event:
    """The event that a JSON object says."""
    if not isinstance(obj, Mapping):
        raise InvalidEvent("not_an_object", None, f"an event is an object, not {_kind(obj)}")
    name = obj.get("event_type")
    if isinstance(name, str) and name not in EVENT_TYPES and unknown.mode(name) == "custom":
        obj = _as_custom(obj, name)
    cls = _event_class(obj.get("event_type"), unknown)
    fields = flat(obj, custom=cls is EVENT_TYPES["custom"])
    if fields.get("timestamp") is None:
        raise InvalidEvent("missing_field", "timestamp", "every event says when it happened")
    try:
        return cls(**fields)
    except ValidationError as error:
        raise _invalid(cls, error) from None


def _event_class(name: Any, unknown: UnknownTypes) -> type[Event]:
    if not name:
        raise InvalidEvent("missing_field", "event_type", "every event names its type")
    cls = EVENT_TYPES.get(name) if isinstance(name, str) else None
    if cls is None:
        raise InvalidEvent(
            "unknown_type",
            "event_type",
            f"there is no event type {name!r}{_suggest(name, EVENT_TYPES)};"
            " use custom, or add a type by a class or an .avsc file",
            keep=not isinstance(name, str) or unknown.mode(name) != "reject",
        )
    return cls


def _as_custom(obj: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The object as a custom event of that name; what it called its own name is a property."""
    fields = dict(obj) | {"event_type": "custom", "name": name}
    nested = fields.get("properties")
    if "name" in obj:
        if isinstance(nested, list | tuple):
            nested = [*nested, {"key": "name", "value": obj["name"]}]
        else:
            nested = dict(nested) if isinstance(nested, Mapping) else {}
            _put(nested, "name", obj["name"])
        fields["properties"] = nested
    return fields


def flat(obj: Mapping[str, Any], *, custom: bool) -> dict[str, Any]:
    """The object's fields side by side, whatever was nested; a custom event's rest as properties.

    Raises InvalidEvent for a field that is given twice.
    """
    fields: dict[str, Any] = {}
    nested: dict[str, Any] = {}
    for key, value in obj.items():
        if key == "consent" and isinstance(value, Mapping):
            for purpose, given in value.items():
                _put(fields, f"consent_{purpose}", given)
        elif key == "properties" and isinstance(value, Mapping):
            nested = dict(value)
        else:
            _put(fields, RENAMED.get(str(key), str(key)), value)
    if custom:
        return _custom(fields, nested)
    for key, value in nested.items():
        _put(fields, RENAMED.get(str(key), str(key)), value)
    return fields


def _custom(fields: dict[str, Any], nested: dict[str, Any]) -> dict[str, Any]:
    """All that no field has a name for is a property."""
    known = EVENT_TYPES["custom"].model_fields
    if "name" not in fields and "name" in nested:
        fields["name"] = nested.pop("name")
    for key in [key for key in fields if key not in known]:
        _put(nested, key, fields.pop(key))
    if nested:
        listed = fields.get("properties") or []
        if not isinstance(listed, list | tuple):
            raise InvalidEvent("wrong_value", "properties", f"an object, not {_kind(listed)}")
        added = [{"key": str(key), "value": value} for key, value in nested.items()]
        fields["properties"] = [*listed, *added]
    return fields


def _put(fields: dict[str, Any], key: str, value: Any) -> None:
    if key in fields and fields[key] != value:
        raise InvalidEvent("conflicting_field", key, f"given twice: {fields[key]!r} and {value!r}")
    fields[key] = value


def _invalid(cls: type[Event], error: ValidationError) -> InvalidEvent:
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"]) or None
    reason = REASONS.get(first["type"], "wrong_value")
    message = first["msg"]
    if reason == "unknown_field":
        message = f"{first['loc'][0]} is no field of {cls.__name__}" + _suggest(
            first["loc"][0], cls.model_fields
        )
    elif reason in ("wrong_value", "out_of_range"):
        message += f", got {first['input']!r:.100}"
    return InvalidEvent(reason, field, message)


def _suggest(name: Any, known: Mapping[str, Any]) -> str:
    close = get_close_matches(str(name)[:MAX_NAME], known, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def _kind(value: Any) -> str:
    return "null" if value is None else type(value).__name__
