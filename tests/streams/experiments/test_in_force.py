"""Which markers are taken, and that no marker stops a worker."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streamgauge.schemas.experiments import Experiment, load_experiment
from streamgauge.schemas.records import Control
from streamgauge.streams.experiments.in_force import InForce

DEFINITION = """
name: e
variants: [{name: a}, {name: b}]
metrics:
  - {name: m, role: primary, aggregate: mean, events: [rating], field: score}
"""
CREATED = Experiment(definition=load_experiment(DEFINITION))
RUNNING = replace(CREATED, state="running", started_at=1000)
OTHER = load_experiment(DEFINITION.replace("rating", "quiz_attempt"))
RAISED = load_experiment(DEFINITION + "allocation: 100%")


def after(*experiments: Experiment) -> InForce:
    in_force = InForce()
    for offset, one in enumerate(experiments):
        in_force, problem = in_force.with_control(one.control(), 10 * offset)
        assert problem is None
    return in_force


@pytest.mark.parametrize(
    ("before", "new", "said"),
    [
        ((), RUNNING.stopped(1, ""), "not known"),
        ((RUNNING,), replace(RUNNING, definition=OTHER), "is running: stop it first"),
        ((RUNNING,), CREATED, "is running: stop it first"),
        ((RUNNING, RUNNING.stopped(1, "")), RUNNING, "has been stopped"),
    ],
)
def test_what_would_change_the_meaning_of_figures_is_not_taken(
    before: tuple[Experiment, ...], new: Experiment, said: str
) -> None:
    in_force = after(*before)
    left, problem = in_force.with_control(new.control(), 100)
    assert said in (problem or "")
    assert (left.experiments, left.offset) == (in_force.experiments, 100)


@pytest.mark.parametrize("body", ["", "no", "{}", '{"state": "running"}', None])
def test_what_cannot_be_understood_is_a_sentence(body: str | None) -> None:
    control = Control(kind="experiment", name="new", version=1, body=body)
    left, problem = after(RUNNING).with_control(control, 100)
    assert problem and "new" in problem
    assert set(left.experiments) == {"e"}


def test_markers_of_others_and_markers_that_are_read_again_change_nothing() -> None:
    in_force = after(CREATED, RUNNING)
    segments = Control(kind="segments", name="e", version=1, body="{}")
    assert in_force.with_control(segments, 100) == (in_force, None)
    assert in_force.with_control(CREATED.control(), 10) == (in_force, None)


def test_a_selection_is_collected_from_the_first_definition_on_until_the_last_ends() -> None:
    in_force = after(CREATED, RUNNING, replace(RUNNING, definition=RAISED))
    assert list(in_force.collected_since.values()) == [0]
    assert in_force.running_since == {"e": 10}
    in_force, _ = in_force.with_control(RUNNING.stopped(1, "").control(), 100)
    assert (in_force.collected_since, in_force.running_since, in_force.active) == ({}, {}, ())


def test_a_control_without_a_body_ends_it() -> None:
    gone = Control(kind="experiment", name="e", version=3, body=None)
    left, problem = after(RUNNING).with_control(gone, 100)
    assert problem is None
    assert left.experiments["e"].state == "stopped"


def test_it_comes_back_from_its_text() -> None:
    in_force = after(CREATED, RUNNING)
    assert InForce.of_json(in_force.to_json()) == in_force
