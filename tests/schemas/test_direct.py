"""What is encoded directly is what the long way makes of it: the same record, or no record."""

from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, field_validator

from streamgauge.schemas.codec import Codec
from streamgauge.schemas.derivation import avro_schema
from streamgauge.schemas.direct import Encode, direct_encoder
from streamgauge.schemas.envelope import EVENT_TYPES, Event
from streamgauge.schemas.parsing import parse_event
from streamgauge.schemas.registry import Registry, open_registry

NOW = 1_767_225_600_000

TEXTS = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["mobile", "Mobile ", "granted", "start", "done", "720p", "x" * 70_000, "\ud83d"]
    ),
)
NUMBERS = st.one_of(
    st.integers(-5, 300), st.integers(), st.floats(allow_nan=False), st.just(2**63), st.just(1e308)
)
TIMES = st.one_of(
    st.integers(NOW, NOW + 10**9),
    st.sampled_from([0, -1, 1, 2**34 - 1, 2**34, 2**41 - 1, 2**41, 7_258_118_400_000]),
    st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-01", "1767225600000", "soon", "1e400"]),
)
PAIRS = st.one_of(
    st.dictionaries(st.text(max_size=3), st.one_of(TEXTS, NUMBERS, st.none(), st.booleans())),
    st.lists(st.fixed_dictionaries({"key": TEXTS, "value": st.one_of(st.none(), TEXTS, NUMBERS)})),
    st.just([{"key": "a"}]),
)
ANY = st.one_of(st.none(), st.booleans(), TEXTS, NUMBERS, TIMES, PAIRS, st.just([1]), st.just({}))
FIELDS = sorted({name for cls in EVENT_TYPES.values() for name in cls.model_fields})


@st.composite
def objects(draw: st.DrawFn) -> dict[str, Any]:
    """Events, mostly right, with now and then something else in a field."""
    name, cls = draw(st.sampled_from(sorted(EVENT_TYPES.items(), key=lambda item: item[0])))
    event: dict[str, Any] = {"event_id": "e1", "event_type": name, "user_id": "u1"}
    event["timestamp"] = draw(TIMES)
    kinds = {field["name"]: str(field["type"]) for field in avro_schema(cls)["fields"]}
    for field in draw(st.lists(st.sampled_from(sorted(kinds)), max_size=8, unique=True)):
        kind = kinds[field]
        if field == "event_type":
            continue
        right = TEXTS if "string" in kind else NUMBERS
        right = TIMES if "millis" in kind else right
        right = st.booleans() if "boolean" in kind else right
        right = PAIRS if "array" in kind else right
        event[field] = draw(st.one_of(right, right, right, ANY))
    if draw(st.integers(0, 5)) == 0:
        event[draw(st.sampled_from([*FIELDS, "device", "consent", "properties", "x"]))] = draw(ANY)
    if draw(st.integers(0, 5)) == 0:
        event["properties"] = draw(st.dictionaries(st.sampled_from(FIELDS), ANY, max_size=3))
    return event


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return open_registry(f"file:{tmp_path_factory.mktemp('registry')}")


@pytest.fixture(scope="module")
def encoders(registry: Registry) -> dict[str, Encode | None]:
    return {name: direct_encoder(registry, "events", cls) for name, cls in EVENT_TYPES.items()}


@settings(max_examples=300, deadline=None)
@given(event=objects())
def test_the_bytes_are_the_codecs_or_the_long_way_decides(
    event: dict[str, Any], registry: Registry, encoders: dict[str, Encode | None]
) -> None:
    kind = event["event_type"]
    encode = encoders.get(kind) if isinstance(kind, str) else None
    if encode is None:
        return
    direct = encode(dict(event))
    if direct is None:
        return
    parsed = parse_event(event)
    assert direct.value == Codec(registry).encode("events", parsed)
    assert direct.event_id == parsed.event_id
    assert direct.key == parsed.user_key.encode()


def test_plain_events_of_every_type_go_directly(encoders: dict[str, Encode | None]) -> None:
    base = {"event_id": "e", "user_id": "u", "timestamp": NOW, "received_at": NOW, "os": "Linux"}
    own: dict[str, dict[str, Any]] = {
        "custom": {"name": "signup", "properties": {"plan": "pro", "seats": 3}},
        "experiment_exposure": {"experiment_id": "x", "variant": "a"},
        "playback": {"action": "start", "position_ms": 1.5, "consent": {"analytics": True}},
        "search": {"properties": {"query": "shoes", "results_count": 4}},
    }
    for name, encode in encoders.items():
        assert encode is not None
        assert encode({**base, "event_type": name, **own.get(name, {})}) is not None, name


@pytest.mark.parametrize(
    "change",
    [
        {"user_id": ""},
        {"user_id": None},
        {"event_id": None},
        {"timestamp": None},
        {"status": "200"},
        {"status": True},
        {"status": 2**63},
        {"device_type": "Mobile"},
        {"device_type": ["mobile"]},
        {"nobody": 1},
        {"title": "\ud83d"},
        {"title": "x" * 65_537},
        {"properties": {"user_id": "another"}},
    ],
)
def test_what_needs_a_closer_look_is_left_to_the_long_way(
    change: dict[str, Any], encoders: dict[str, Encode | None]
) -> None:
    event = {"event_id": "e", "event_type": "page_view", "user_id": "u", "timestamp": NOW}
    encode = encoders["page_view"]
    assert encode is not None and encode(dict(event)) is not None
    assert encode(event | change) is None


@pytest.fixture
def own_types() -> Any:
    known = dict(EVENT_TYPES)
    yield
    EVENT_TYPES.clear()
    EVENT_TYPES.update(known)


def test_a_class_that_decides_for_itself_is_never_passed_by(
    own_types: None, registry: Registry
) -> None:
    class Checked(Event):
        event_type: Literal["checked"] = "checked"
        title: str | None = None

        @field_validator("title")
        @classmethod
        def _no_shouting(cls, value: str | None) -> str | None:
            if value and value.isupper():
                raise ValueError("no shouting")
            return value

    class Filled(Event):
        event_type: Literal["filled"] = "filled"
        title: str | None = "untitled"

    class Patterned(Event):
        event_type: Literal["patterned"] = "patterned"
        title: str | None = Field(default=None, pattern="^[a-z]+$")

    assert direct_encoder(registry, "events", Checked) is None
    assert direct_encoder(registry, "events", Filled) is None
    encode = direct_encoder(registry, "events", Patterned)
    assert encode is not None
    event = {"event_id": "e", "event_type": "patterned", "user_id": "u", "timestamp": NOW}
    assert encode(dict(event)) is not None
    assert encode({**event, "title": "abc"}) is None


def test_a_subclass_of_a_type_of_ones_own_is_encoded_directly(
    own_types: None, registry: Registry
) -> None:
    class Signup(Event):
        event_type: Literal["signup"] = "signup"
        plan: str
        price: float | None = None

    encode = direct_encoder(registry, "events", Signup)
    event = {"event_id": "e", "event_type": "signup", "user_id": "u", "timestamp": NOW}
    assert encode is not None
    assert encode(dict(event)) is None  # it lacks the plan
    found = encode({**event, "plan": "pro", "price": 3})
    assert found is not None
    parsed = parse_event({**event, "plan": "pro", "price": 3})
    assert found.value == Codec(registry).encode("events", parsed)
