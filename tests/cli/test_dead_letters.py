"""Dead letters as records again: what the first time would have made, or why it cannot be."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from streamgauge.cli.dead_letters import Again, Originals, Stays
from streamgauge.producers.files import MAX_LINE, produce_file
from streamgauge.producers.undeclared import letter as sdk_letter
from streamgauge.producers.undeclared import read_event
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.records import DeadLetter
from streamgauge.schemas.registry import Registry, open_registry
from streamgauge.schemas.unknown import KEPT, UnknownTypes
from streamgauge.serving.collector.agents import Agent
from streamgauge.serving.collector.intake import Intake, Record, Sender
from streamgauge.serving.collector.keys import WriteKey
from streamgauge.serving.collector.settings import Limits

NOW = 1_769_860_800_000
CUSTOM = UnknownTypes(default="custom")
VISIT = {"event_type": "shop_visit", "user_id": "ann", "timestamp": NOW, "aisle": 7}
BROWSER = Sender(
    key=WriteKey(name="shop"),
    arrived=NOW + 60_000,
    shift=5_000,
    agent=Agent(device_type="tv", os="Tizen", browser="Samsung"),
    country="DE",
)


@pytest.fixture
def registry() -> Registry:
    return open_registry("mock://dead-letters")


def decoded(registry: Registry, record: Record | Again) -> dict[str, Any]:
    return Codec(registry).decode(record.value or b"").record


def collected(
    registry: Registry, sent: Any, unknown: UnknownTypes = KEPT, **limits: int
) -> tuple[str | None, Record]:
    [answer] = Intake(registry, Limits(**limits), unknown).take([sent], BROWSER)
    assert answer.record is not None
    return answer.id, answer.record


def again(registry: Registry, letter: Any, unknown: UnknownTypes = CUSTOM) -> Again | Stays:
    return Originals(registry, unknown).again(letter)


def stays(registry: Registry, letter: Any, unknown: UnknownTypes = CUSTOM) -> str:
    found = again(registry, letter, unknown)
    assert isinstance(found, Stays)
    return found.reason


def refused(registry: Registry, sent: Any, **limits: int) -> dict[str, Any]:
    _, record = collected(registry, sent, **limits)
    assert record.topic == "dead-letters"
    return decoded(registry, record)


def a_letter(**fields: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(DeadLetter.__dataclass_fields__)
    return {**nothing, "partition": 0, "offset": 1, "reason": "x", "failed_at": NOW, **fields}


@pytest.mark.parametrize(
    "sent",
    [
        {**VISIT, "event_id": "e1"},
        {**VISIT, "event_id": "e1", "country": "FR", "device": "mobile"},
        {"event_type": "shop_visit", "event_id": "e1", "user_id": "ann", "timestamp": NOW}
        | {"properties": {"received_at": 3, "os": "x"}},
        {**VISIT, "event_id": "e1", "timestamp": "2026-01-31T12:00:00Z"},
    ],
)
def test_what_the_collector_refused_is_what_it_would_have_taken(
    registry: Registry, sent: dict[str, Any]
) -> None:
    letter = refused(registry, sent)
    assert json.loads(letter["payload"]) == sent
    found = again(registry, letter)
    assert isinstance(found, Again)
    _, first = collected(registry, sent, CUSTOM)
    assert (found.topic, found.partition, found.key) == ("events", None, first.key)
    assert decoded(registry, found) == decoded(registry, first)
    assert stays(registry, letter, KEPT) == "unknown_type"


def test_an_event_without_an_id_gets_one_and_the_same_whenever_it_is_replayed(
    registry: Registry,
) -> None:
    letter = refused(registry, VISIT)
    of_old = {**letter, "added": None}  # as letters were before they said it
    nested = refused(registry, {**VISIT, "properties": {"event_id": "e1"}})
    for one in (nested, letter, of_old):
        ids = set()
        for _ in range(2):
            found = again(registry, one)
            assert isinstance(found, Again)
            ids.add(decoded(registry, found)["event_id"])
        assert len(ids) == 1
    assert decoded(registry, found)["received_at"] == BROWSER.arrived


def test_what_was_cut_off_or_is_no_event_stays(registry: Registry) -> None:
    large = {**VISIT, "text": "x" * 500}
    assert stays(registry, refused(registry, large, event_bytes=200)) == "truncated"
    assert stays(registry, refused(registry, 7)) == "not_an_object"
    assert stays(registry, refused(registry, {**VISIT, "user_id": ""})) == "missing_user"
    assert stays(registry, a_letter(topic="sdk", payload=None)) == "truncated"
    assert stays(registry, a_letter(topic="elsewhere", payload=b"{}")) == "unknown_source"


def test_what_the_sdk_kept_is_the_event_that_was_tracked(registry: Registry) -> None:
    fields = {**VISIT, "event_id": "e1"}
    letter = asdict(sdk_letter(read_event(fields, KEPT)))
    found = again(registry, letter)
    assert isinstance(found, Again)
    event = decoded(registry, found)
    assert (found.topic, found.key, event["event_id"]) == ("events", b"ann", "e1")
    assert (event["name"], event["properties"][0]["key"]) == ("shop_visit", "aisle")
    assert stays(registry, letter, KEPT) == "unknown_type"


class Kept:
    """A client that only keeps what it is given."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.letters: list[DeadLetter] = []

    def send_event(self, event: Any) -> None:
        self.events.append(event)

    def send_dead_letter(self, letter: DeadLetter) -> None:
        self.letters.append(letter)

    def flush(self, timeout: float) -> int:
        return 0


def produced(file: Path, unknown: UnknownTypes) -> Kept:
    kept = Kept()
    produce_file(kept, file, "jsonl", unknown=unknown)  # type: ignore[arg-type]
    return kept


def test_a_line_of_a_file_has_the_id_that_the_file_gives_it(
    registry: Registry, tmp_path: Path
) -> None:
    file = tmp_path / "visits.jsonl"
    lines = [VISIT, {**VISIT, "event_id": "e2"}]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + "{\n" + "7" * MAX_LINE * 2)
    expected = [event.event_id for event in produced(file, CUSTOM).events]
    first, second, broken, long = map(asdict, produced(file, KEPT).letters)
    made = [again(registry, letter) for letter in (first, second)]
    ids = [decoded(registry, one)["event_id"] for one in made if isinstance(one, Again)]
    assert ids == expected
    assert stays(registry, broken) == "bad_json"
    assert stays(registry, long) == "truncated"
    of_old = {**first, "added": None}
    assert stays(registry, of_old) == "no_id"


def test_a_record_goes_back_to_its_partition_as_it_is(registry: Registry) -> None:
    letter = a_letter(topic="events", partition=2, key=b"ann", payload=b"\x01bytes")
    found = again(registry, letter)
    assert found == Again(topic="events", key=b"ann", value=b"\x01bytes", partition=2)
