"""The events: one envelope, one class per type, and a registry that users add to.

Upstream: the SDK, the collector and `produce` build events from code or JSON
(`parsing.py`); downstream: `avro.py` derives the schemas, `codec.py` encodes.
A type of one's own is a subclass with its name, and nothing else to change:

    class Signup(Event):
        event_type: Literal["signup"] = "signup"
        plan: str | None = None

Invariants: times are int milliseconds since the epoch, UTC; every field but event_id,
event_type and timestamp may be absent; every event has a user_id or an anonymous_id; what a
class accepts always fits its Avro schema.
"""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from streamgauge.schemas.errors import SchemaError
from streamgauge.schemas.records import TIME

MAX_TIMESTAMP = 7_258_118_400_000
"""The year 2200: later timestamps are refused."""

MAX_STRING = 65_536
"""Characters in one string of an event."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_millis(value: Any) -> Any:
    """Milliseconds since the epoch from ISO 8601 (UTC unless it says else), a datetime, a number.

    A date alone is its midnight. Fractions of a millisecond are dropped.
    """
    if type(value) is int:
        return value
    if isinstance(value, str):
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


# Its own generator: nobody's random.seed(42) may make two processes draw the same ids.
_random = random.Random()
os.register_at_fork(after_in_child=_random.seed)


def uuid7() -> str:
    """A UUIDv7: sorts by time, and 74 random bits keep it unique across processes and forks."""
    millis = time.time_ns() // 1_000_000
    bits = _random.getrandbits(74)
    return (
        f"{millis >> 16:08x}-{millis & 0xFFFF:04x}-7{bits >> 62:03x}"
        f"-{bits >> 48 & 0x3FFF | 0x8000:04x}-{bits & 0xFFFFFFFFFFFF:012x}"
    )


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def _lower(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def _empty_is_absent(value: Any) -> Any:
    return None if value == "" else value


def _pairs(value: Any) -> Any:
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
Id = Annotated[str | None, BeforeValidator(_empty_is_absent)]
Long = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Amount = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Properties = Annotated[tuple[Property, ...], BeforeValidator(_pairs)]

# Upper and lower case are the same to a sender; one of them gets into the log.
DeviceType = Annotated[Literal["mobile", "tablet", "desktop", "tv"], BeforeValidator(_lower)]
ConnectionSpeed = Annotated[Literal["slow", "medium", "fast"], BeforeValidator(_lower)]
Quality = Annotated[Literal["720p", "1080p", "4k"], BeforeValidator(_lower)]
CourseAction = Annotated[Literal["view", "enroll", "complete"], BeforeValidator(_lower)]
ContentAction = Annotated[Literal["like", "comment", "share", "save"], BeforeValidator(_lower)]
PlaybackAction = Annotated[
    Literal["start", "progress", "skip", "complete"], BeforeValidator(_lower)
]
TaskAction = Annotated[Literal["created", "completed", "status"], BeforeValidator(_lower)]
TaskStatus = Annotated[Literal["todo", "in_progress", "done"], BeforeValidator(_lower)]

EVENT_TYPES: dict[str, type[Event]] = {}
"""Every known event type by name."""

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
    EVENT_TYPES[name] = cls
    return cls


class PageView(Event):
    """A page was shown; from an access log, a GET answered 200 or 304."""

    event_type: Literal["page_view"] = "page_view"
    title: str | None = None
    method: str | None = None
    status: Long | None = None
    response_size_bytes: Count | None = None


class CourseInteraction(Event):
    event_type: Literal["course_interaction"] = "course_interaction"
    course_id: str | None = None
    action: CourseAction | None = None
    duration: Amount | None = None
    content_type: str | None = None


class LearningSession(Event):
    event_type: Literal["learning_session"] = "learning_session"
    duration: Amount | None = None
    completion_rate: Share | None = None
    content_type: str | None = None


class QuizAttempt(Event):
    event_type: Literal["quiz_attempt"] = "quiz_attempt"
    quiz_id: str | None = None
    score: float | None = None
    total_questions: Count | None = None
    time_taken: Amount | None = None


class Search(Event):
    event_type: Literal["search"] = "search"
    query: str | None = None
    results_count: Count | None = None
    filters: Properties | None = None


class _Element(Event):
    element_id: str | None = None


class ButtonClick(_Element):
    event_type: Literal["button_click"] = "button_click"


class LinkClick(_Element):
    event_type: Literal["link_click"] = "link_click"


class FormSubmit(_Element):
    event_type: Literal["form_submit"] = "form_submit"


class FeedGenerated(Event):
    event_type: Literal["feed_generated"] = "feed_generated"
    generation_time_ms: Amount | None = None
    cache_hit: bool | None = None
    item_count: Count | None = None
    personal_connections: Share | None = None
    interest_based: Share | None = None


class _FeedItem(Event):
    section: str | None = None
    item_id: str | None = None
    content_type: str | None = None
    position: Long | None = None
    genre: str | None = None
    creator_id: str | None = None
    source: str | None = None
    published_at: Time | None = None
    exploration: bool | None = None


class FeedView(_FeedItem):
    event_type: Literal["feed_view"] = "feed_view"


class FeedClick(_FeedItem):
    event_type: Literal["feed_click"] = "feed_click"


class ContentInteraction(Event):
    event_type: Literal["content_interaction"] = "content_interaction"
    content_id: str | None = None
    content_type: str | None = None
    action: ContentAction | None = None
    session_duration: Amount | None = None


class Playback(Event):
    event_type: Literal["playback"] = "playback"
    item_id: str | None = None
    series_id: str | None = None
    episode: str | None = None
    action: PlaybackAction | None = None
    position_ms: Count | None = None
    duration_ms: Count | None = None
    quality: Quality | None = None
    genre: str | None = None
    creator_id: str | None = None
    published_at: Time | None = None
    exploration: bool | None = None


class Rating(Event):
    event_type: Literal["rating"] = "rating"
    item_id: str | None = None
    score: float | None = None


class TaskUpdate(Event):
    event_type: Literal["task_update"] = "task_update"
    task_id: str | None = None
    action: TaskAction | None = None
    status: TaskStatus | None = None
    priority: str | None = None
    due_date: Time | None = None


class Request(Event):
    """A call to one of the services behind the product (performance logs)."""

    event_type: Literal["request"] = "request"
    method_name: str | None = None
    route: str | None = None
    status: Long | None = None
    duration_ms: Amount | None = None
    response_size_bytes: Count | None = None
    cache_hit: bool | None = None
    error_type: str | None = None
    context: Properties | None = None


class ExperimentExposure(Event):
    event_type: Literal["experiment_exposure"] = "experiment_exposure"
    experiment_id: str
    variant: str


class Identify(Event):
    """From here on, anonymous_id is user_id."""

    event_type: Literal["identify"] = "identify"


class ConsentChange(Event):
    """The user's consent is now as the envelope says."""

    event_type: Literal["consent_change"] = "consent_change"


class Custom(Event):
    """An event without a class of its own: a name and properties of any kind."""

    event_type: Literal["custom"] = "custom"
    name: str = Field(min_length=1)
    properties: Properties | None = None
