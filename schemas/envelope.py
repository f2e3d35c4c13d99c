"""The envelope that every event has, the kinds of its fields, and the registry of event types.

Upstream: nothing. Downstream: `events.py` has the types that come with Streamgauge, `parsing.py`
reads JSON, `avro.py` derives the schemas. A type of one's own is a subclass with its name, and
nothing else to change:

    class Signup(Event):
        event_type: Literal["signup"] = "signup"
        plan: str | None = None

Invariants: times are int milliseconds since the epoch, UTC; every field but event_id,
event_type and timestamp may be absent; every event has a user_id or an anonymous_id; what a
class accepts always fits its Avro schema; a field's name means one Avro type in all of them, for
they meet as columns of one frame (hence `task_status` beside the HTTP `status`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from streamgauge.schemas.derivation import avro_schema
from streamgauge.schemas.errors import SchemaError
from streamgauge.schemas.ids import now_ms, uuid7
from streamgauge.schemas.records import TIME

MAX_TIMESTAMP = 7_258_118_400_000
"""The year 2200: later timestamps are refused."""

MAX_STRING = 65_536
"""Characters in one string of an event."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# More digits than a date in ISO 8601's basic format: Python reads 1760-01-13 in 1760011300000.
NUMBER = re.compile(r"\d{9,20}(\.\d*)?", re.ASCII)


def to_millis(value: Any) -> Any:
    """Milliseconds since the epoch from ISO 8601 (UTC unless it says else), a datetime, a number.

    A date alone is its midnight. Fractions of a millisecond are dropped.
    """
    if type(value) is int:
        return value
    if isinstance(value, str):
        if NUMBER.fullmatch(value.strip()):
            return int(float(value))
        try:
            value = datetime.fromisoformat(value.strip())
        except ValueError:
            try:
                value = float(value)
            except ValueError:
                raise PydanticCustomError(
                    "timestamp",
                    "neither ISO 8601 (2026-01-31T12:00:00Z) nor milliseconds since the epoch",
                ) from None
    if isinstance(value, datetime):
        if value.tzinfo is None:
            value = value.replace(tzinfo=UTC)
        return (value - EPOCH) // timedelta(milliseconds=1)
    if isinstance(value, float) and math.isfinite(value):
        return int(value)
    raise PydanticCustomError(
        "timestamp", "neither ISO 8601 (2026-01-31T12:00:00Z) nor milliseconds since the epoch"
    )


def lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def empty_is_absent(value: Any) -> Any:
    """An id that is an empty string is none."""
    return None if value == "" else value


def pairs(value: Any) -> Any:
    """A mapping as a list of pairs; values that are no strings as JSON."""
    if isinstance(value, Mapping):
        value = [{"key": key, "value": item} for key, item in value.items()]
    if not isinstance(value, list | tuple):
        return value
    return [
        {**pair, "value": json.dumps(pair["value"], separators=(",", ":"), default=str)}
        if isinstance(pair, Mapping) and not isinstance(pair.get("value"), str | None)
        else pair
        for pair in value
    ]


class Property(BaseModel):
    """One key and its value, where a map would be (readers of columns know no maps)."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, coerce_numbers_to_str=True, str_max_length=MAX_STRING
    )

    key: str
    value: str | None = None


Time = Annotated[int, BeforeValidator(to_millis), Field(gt=0, lt=MAX_TIMESTAMP), TIME]
Id = Annotated[str | None, BeforeValidator(empty_is_absent)]
Long = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Amount = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Properties = Annotated[tuple[Property, ...], BeforeValidator(pairs)]

# Upper and lower case are the same to a sender; one of them gets into the log.
DeviceType = Annotated[Literal["mobile", "tablet", "desktop", "tv"], BeforeValidator(lower)]
ConnectionSpeed = Annotated[Literal["slow", "medium", "fast"], BeforeValidator(lower)]
EVENT_TYPES: dict[str, type[Event]] = {}
"""Every known event type by name."""

COLUMNS: dict[str, Any] = {}
"""The Avro type of every field of every event type: in a frame of all events, a column each."""

E = TypeVar("E", bound="Event")


class Event(BaseModel):
    """The envelope: what every event carries. Subclass it to add a type."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        coerce_numbers_to_str=True,
        allow_inf_nan=False,
        # Also what makes pydantic look into a string: lone surrogates have no UTF-8.
        str_max_length=MAX_STRING,
    )

    namespace: ClassVar[str] = "streamgauge"

    event_id: str = Field(default_factory=uuid7, min_length=1)
    event_type: str
    user_id: Id = None
    anonymous_id: Id = None
    session_id: Id = None
    timestamp: Time = Field(default_factory=now_ms)
    received_at: Time | None = None
    page_url: str | None = None
    referrer: str | None = None
    device_type: DeviceType | None = None
    screen_size: str | None = None
    connection_speed: ConnectionSpeed | None = None
    os: str | None = None
    browser: str | None = None
    country: str | None = None
    app_version: str | None = None
    consent_analytics: bool | None = None
    consent_personalisation: bool | None = None
    consent_marketing: bool | None = None
    bot: bool | None = None
    """Sent by a program, as far as its User-Agent says."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if not cls.__name__.startswith("_"):
            register_event(cls)

    @model_validator(mode="after")
    def _has_user(self) -> Event:
        if self.user_id is None and self.anonymous_id is None:
            raise PydanticCustomError("missing_user", "needs a user_id or an anonymous_id")
        return self

    @property
    def user_key(self) -> str:
        """Whose event this is: Kafka's key, and the user of per-user computations."""
        return self.user_id or self.anonymous_id or ""


def register_event(cls: type[E]) -> type[E]:
    """Add a type to EVENT_TYPES; subclasses of Event do it by themselves."""
    name = cls.model_fields["event_type"].default
    if not isinstance(name, str):
        raise SchemaError(
            f'{cls.__name__} does not say its type: add event_type: Literal["…"] = "…"'
            " (a name that begins with _ makes it a mere parent)"
        )
    known = EVENT_TYPES.get(name)
    if known and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
        raise SchemaError(f"{cls.__name__}: the event type {name} is already {known.__name__}")
    for field in avro_schema(cls)["fields"]:
        kind = field["type"]
        if COLUMNS.setdefault(field["name"], kind) != kind:
            raise SchemaError(
                f"{cls.__name__}.{field['name']} is {kind}, but other events have it as"
                f" {COLUMNS[field['name']]}: give it that type, or another name"
            )
    EVENT_TYPES[name] = cls
    return cls


# Whoever sees EVENT_TYPES or COLUMNS finds the built-in types in them, however he came here.
import streamgauge.schemas.events  # noqa: E402, F401
