"""The event types that come with Streamgauge, and everything one needs to use or add one.

Upstream: the SDK, the collector and `produce` make events from code or, by `parse_event`, from
JSON. Downstream: `avro.py` derives their schemas, `codec.py` encodes them. How to add a type:
`envelope.py` (a class) and `loading.py` (a module or an .avsc file named by a setting).
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AliasChoices, BeforeValidator, Field

from streamgauge.schemas.envelope import (
    EVENT_TYPES,
    Amount,
    Count,
    Event,
    Long,
    Properties,
    Property,
    Share,
    Time,
    lower,
    register_event,
)

if TYPE_CHECKING:
    from streamgauge.schemas.loading import load_event_module, load_event_schema
    from streamgauge.schemas.parsing import parse_event

__all__ = [
    "EVENT_TYPES",
    "Amount",
    "ButtonClick",
    "ConsentChange",
    "ContentInteraction",
    "Count",
    "CourseInteraction",
    "Custom",
    "Event",
    "ExperimentExposure",
    "FeedClick",
    "FeedGenerated",
    "FeedView",
    "FormSubmit",
    "Identify",
    "LearningSession",
    "LinkClick",
    "Long",
    "PageView",
    "Playback",
    "Properties",
    "Property",
    "QuizAttempt",
    "Rating",
    "Request",
    "Search",
    "Share",
    "TaskUpdate",
    "Time",
    "load_event_module",
    "load_event_schema",
    "parse_event",
    "register_event",
]

# What works on all types may be imported before them, so it is looked up when asked for.
_ELSEWHERE = {
    "load_event_module": "loading",
    "load_event_schema": "loading",
    "parse_event": "parsing",
}


def __getattr__(name: str) -> Any:
    if name not in _ELSEWHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"streamgauge.schemas.{_ELSEWHERE[name]}"), name)
    globals()[name] = value
    return value


Quality = Annotated[Literal["720p", "1080p", "4k"], BeforeValidator(lower)]
CourseAction = Annotated[Literal["view", "enroll", "complete"], BeforeValidator(lower)]
ContentAction = Annotated[Literal["like", "comment", "share", "save"], BeforeValidator(lower)]
PlaybackAction = Annotated[Literal["start", "progress", "skip", "complete"], BeforeValidator(lower)]
TaskAction = Annotated[Literal["created", "completed", "status"], BeforeValidator(lower)]
TaskStatus = Annotated[Literal["todo", "in_progress", "done"], BeforeValidator(lower)]


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
    position_ms: Amount | None = None
    duration_ms: Amount | None = None
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
    task_status: TaskStatus | None = Field(
        default=None, validation_alias=AliasChoices("task_status", "status")
    )
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
