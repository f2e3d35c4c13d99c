"""What a webhook is told, in which order, how long it is tried, and what becomes of the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from confluent_kafka import Message

from streamgauge.schemas.alerts import load_policies
from streamgauge.schemas.anomaly_records import Anomaly
from streamgauge.schemas.experiment_records import ExperimentResult
from streamgauge.schemas.experiments import Experiment, load_experiment
from streamgauge.schemas.metrics import builtin
from streamgauge.sinks.errors import Retryable
from streamgauge.sinks.sink import Log
from streamgauge.sinks.webhook.request import Answer
from streamgauge.sinks.webhook.sink import STALE_MS, WebhookSink

NOON = 1_767_268_800_000
FILE = """
webhooks:
  - {name: ops, url: "https://a", experiments: true, retry_minutes: 15}
policies:
  - {detector: bot, severity: red, webhook: ops}
  - {detector: spike, webhook: ops}
except_users: [monitor]
"""
DELIVERED, REFUSED = Answer(outcome="delivered", said="200"), Answer(outcome="refused", said="410")
AWAY = Answer(outcome="again", said="503")


class World:
    """What the sink sees of it: a clock, answers, and what was read and kept."""

    def __init__(self) -> None:
        self.now = NOON / 1000 + 1
        self.answers: list[Answer] = []
        self.sent: list[str] = []
        self.bodies: list[Any] = []
        self.kept: list[tuple[str, str]] = []
        self.rows: list[Any] = []
        policies = load_policies(FILE, builtin())
        self.sink = WebhookSink(
            policies.webhooks[0],
            policies,
            post=self.post,
            keep=lambda _, delivery, reason, said: self.kept.append((delivery.key, reason)),
            committed=lambda places: dict.fromkeys(places, 5),
            results=lambda *_: self.rows,
            now=lambda: self.now,
        )

    def post(self, delivery: Any) -> Answer:
        answer = self.answers.pop(0) if self.answers else DELIVERED
        self.sent.append(delivery.key)
        self.bodies.append(json.loads(delivery.body))
        return answer


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def word(message: Any) -> Callable[..., Message]:
    def make(offset: int, at: int = NOON, partition: int = 0, **fields: Any) -> Message:
        row = {
            **dict.fromkeys(("metric", "dimensions", "user_id", "ended_at", "expected")),
            "anomaly_id": "a",
            "series": "user u",
            "detector": "bot",
            "severity": "red",
            "started_at": NOON,
            "observed": 9.0,
            "score": 1.5,
            "points": 3,
            "version": 1,
            "is_final": False,
        }
        record = Anomaly(**(row | fields))
        return message("anomalies", partition, offset, record, record.anomaly_id, at)

    return make


def test_a_flag_is_told_from_its_opening_to_its_end(world: World, word: Any, batch: Any) -> None:
    messages = [
        word(0, user_id="u"),
        word(1, user_id="u", version=2, observed=20.0),
        word(2, user_id="u", version=3, is_final=True, ended_at=NOON + 60_000),
    ]
    world.sink.write(batch(world.sink, messages))
    assert world.sent == ["a-1", "a-2", "a-3"]
    events = ["anomaly_opened", "anomaly_worse", "anomaly_cleared"]
    assert [told["event"] for told in world.bodies] == events
    last = world.bodies[-1]
    assert (last["user_id"], last["started_at"]) == ("u", "2026-01-01T12:00:00+00:00")
    assert (last["ended_at"], last["dimensions"]) == ("2026-01-01T12:01:00+00:00", None)


def test_only_what_policies_name_is_told(world: World, word: Any, batch: Any) -> None:
    messages = [
        word(0, anomaly_id="yellow", severity="yellow"),
        word(1, anomaly_id="cap", detector="cap"),
        word(2, anomaly_id="monitor", user_id="monitor"),
        word(3, anomaly_id="spike", detector="spike", severity="yellow", dimensions='{"a": 1}'),
    ]
    world.sink.write(batch(world.sink, messages))
    assert world.sent == ["spike-1"]
    assert world.bodies[0]["dimensions"] == {"a": 1}


def test_who_is_away_is_tried_again_from_there(world: World, word: Any, batch: Any) -> None:
    given = batch(world.sink, [word(i, anomaly_id=name) for i, name in enumerate("abc")])
    world.answers = [DELIVERED, AWAY, AWAY]
    for _ in range(2):
        with pytest.raises(Retryable, match="anomaly_opened b-1: 503"):
            world.sink.write(given)
    world.sink.write(given)
    assert world.sent == ["a-1", "b-1", "b-1", "b-1", "c-1"]
    assert world.kept == []


def test_who_asks_to_be_left_alone_is(world: World, word: Any, batch: Any) -> None:
    given = batch(world.sink, [word(0)])
    world.answers = [Answer(outcome="again", said="429", retry_after=30.0)]
    with pytest.raises(Retryable, match="429"):
        world.sink.write(given)
    world.now += 29
    with pytest.raises(Retryable, match="left alone for 1 s"):
        world.sink.write(given)
    world.now += 2
    world.sink.write(given)
    assert world.sent == ["a-1", "a-1"]


def test_what_is_refused_is_kept_and_holds_nobody_up(world: World, word: Any, batch: Any) -> None:
    world.answers = [REFUSED]
    world.sink.write(batch(world.sink, [word(0), word(1, anomaly_id="b")]))
    assert world.kept == [("a-1", "webhook_refused")]
    assert world.sent == ["a-1", "b-1"]


def test_nobody_is_waited_for_for_ever(world: World, word: Any, batch: Any) -> None:
    given = batch(world.sink, [word(0), word(1, at=NOON + 600_000, anomaly_id="b")])
    world.answers = [AWAY] * 3
    with pytest.raises(Retryable):
        world.sink.write(given)
    world.now += 15 * 60  # a was written 15 minutes ago, b five
    with pytest.raises(Retryable, match="b-1"):
        world.sink.write(given)
    assert world.kept == [("a-1", "webhook_given_up")]
    world.sink.write(given)
    assert world.sent == ["a-1", "a-1", "b-1", "b-1"]


def test_a_new_webhook_is_not_told_of_the_past(world: World, word: Any, batch: Any) -> None:
    messages = [word(0, at=NOON - STALE_MS), word(1, anomaly_id="b")]
    world.sink.write(batch(world.sink, messages))
    assert world.sent == ["b-1"]


def test_it_goes_on_where_its_group_was_and_forgets_a_batch(
    world: World, word: Any, batch: Any
) -> None:
    given = batch(world.sink, [word(0), word(1, anomaly_id="b")])
    world.answers = [DELIVERED, AWAY]
    with pytest.raises(Retryable):
        world.sink.write(given)
    assert world.sink.open({("anomalies", 0): Log()}) == {("anomalies", 0): 5}
    world.sink.write(given)  # read again: at least once, with the same keys
    assert world.sent == ["a-1", "b-1", "a-1", "b-1"]


# -- experiments ---------------------------------------------------------------------------------

DEFINITION = """
name: buttons
variants: [{name: control}, {name: green}]
metrics:
  - {name: clicks, role: primary, aggregate: mean, events: [button_click]}
"""


@pytest.fixture
def ended(message: Any, batch: Any, world: World) -> Callable[..., Any]:
    def make(state: str = "stopped", started_at: int | None = NOON) -> Any:
        definition = load_experiment(DEFINITION)
        one = Experiment(
            definition=definition, state=state, started_at=started_at, stopped_at=NOON, version=3
        )
        control = one.control()
        return batch(world.sink, [message("control", 0, 0, control, "experiment/buttons")])

    return make


def figures(variant: str, at: int, state: str = "stopped") -> tuple[int, dict[str, Any]]:
    row: dict[str, Any] = dict.fromkeys(ExperimentResult.__slots__)
    row |= {"experiment": "buttons", "metric": "clicks", "variant": variant, "as_of": NOON}
    row |= {"state": state, "role": "primary", "is_control": variant == "control"}
    return at, row | {"analysis": '{"notes": []}'}


def test_an_end_is_told_with_its_last_figures(world: World, ended: Any) -> None:
    given = ended()
    world.rows = [figures("green", NOON), figures("control", NOON, "running")]
    world.now += 20
    with pytest.raises(Retryable, match="buttons was stopped: its last figures are awaited"):
        world.sink.write(given)
    world.rows[1] = figures("control", NOON + 15_000)
    with pytest.raises(Retryable, match="awaited"):  # they changed a moment ago
        world.sink.write(given)
    world.now += 10
    world.sink.write(given)
    assert world.sent == ["buttons-3"]
    told = world.bodies[0]
    assert (told["event"], told["experiment_id"]) == ("experiment_completed", "buttons")
    assert [row["variant"] for row in told["results"]] == ["control", "green"]
    assert told["results"][0]["as_of"] == "2026-01-01T12:00:00+00:00"
    assert told["results"][0]["analysis"] == {"notes": []}


def test_an_end_is_told_after_a_while_whatever_there_is(world: World, ended: Any) -> None:
    world.now += 15 * 60
    world.sink.write(ended())
    assert world.bodies == [
        {"event": "experiment_completed", "experiment_id": "buttons", "results": []}
    ]


def test_only_ends_of_what_had_begun_are_told(world: World, ended: Any) -> None:
    for given in (ended("running"), ended("created", None), ended("stopped", None)):
        world.sink.write(given)
    assert world.sent == []
