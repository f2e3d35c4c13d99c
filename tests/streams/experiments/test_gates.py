"""Gates: the allocation rises when its step is due and nothing speaks against it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from streamgauge.schemas.experiments import DAY_MS, Experiment, load_experiment, of_body
from streamgauge.schemas.metric_file import DefinitionError
from streamgauge.streams.experiments.gates import ramp

START = 1_760_054_400_000
DEFINITION = """
name: e
variants: [{name: control}, {name: b}, {name: none, weight: 0}]
schedule:
  - {day: 1, allocation: 5%}
  - {day: 3, allocation: 25%}
  - {day: 5, allocation: 100%}
gates:
  metrics:
    - {metric: clicks, within: 5%}
    - {metric: engagement, at_least: 10%}
metrics:
  - {name: clicks, role: primary, aggregate: mean, events: [feed_click]}
  - {name: engagement, aggregate: mean, events: [feed_view]}
  - {name: slow, role: guardrail, aggregate: mean, events: [request], field: duration_ms,
     worse: higher, limit: 10%}
"""


def running() -> Experiment:
    return Experiment(
        definition=load_experiment(DEFINITION), state="running", started_at=START, version=2
    )


def rows(**changed: Any) -> list[dict[str, Any]]:
    """Of a look at which everything is well."""
    told = {"users": 500, "srm_p": 0.4, "verdict": None, "is_control": False}
    found = [
        {**told, "metric": metric, "variant": variant, "is_control": variant == "control"}
        for metric in ("clicks", "engagement", "slow")
        for variant in ("control", "b", "none")
    ]
    lifts = {"clicks": 0.01, "engagement": 0.12, "slow": 0.0} | changed.pop("lifts", {})
    for row in found:
        if row["variant"] == "none":
            row |= {"users": 0}
        elif not row["is_control"]:
            lift = lifts[row["metric"]]
            row |= {
                "lift_relative": lift,
                "verdict": "unclear" if row["metric"] == "slow" else None,
            }
            ends = (lift - 0.02, lift + 0.02)
            names = ("ci_relative_sequential_low", "ci_relative_sequential_high")
            row |= dict(zip(names, ends, strict=True))
            row |= changed if row["metric"] == changed.get("metric", row["metric"]) else {}
    return found


def at(day: float) -> int:
    """The first day is 1."""
    return START + int((day - 1) * DAY_MS)


def test_a_step_is_taken_once_its_day_has_come() -> None:
    early, due = ramp(running(), at(2.9), rows()), ramp(running(), at(3), rows())
    assert early is not None and due is not None and due.opened is not None
    assert (early.opened, early.held, early.allocation) == (None, (), 0.05)
    assert (early.next_allocation, early.due_at) == (0.25, at(3))
    assert due.opened.allocation_at(at(3)) == 0.25
    assert (due.opened.version, due.opened.opened, due.opened.opened_at) == (3, 2, at(3))
    assert due.opened.meaning == running().meaning, "so that it goes on"


def test_steps_keep_their_distance_when_one_was_held_back() -> None:
    late = replace(running(), opened=2, opened_at=at(6))
    found = [ramp(late, at(day), rows()) for day in (6, 7.9, 8)]
    assert [None if one is None else one.opened is not None for one in found] == [0, 0, 1]


def test_without_gates_days_alone_decide() -> None:
    free = replace(running(), definition=running().definition.model_copy(update={"gates": None}))
    assert ramp(free, at(4), rows()) is None
    assert [free.allocation_at(at(day)) for day in (1, 4, 6)] == [0.05, 0.25, 1]
    assert [running().allocation_at(at(day)) for day in (1, 4, 6)] == [0.05] * 3


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"users": 99, "metric": "slow"}, "b has 99 users, fewer than 100"),
        ({"srm_p": 0.0005}, "SRM p 0.0005 < 0.001"),
        ({"verdict": "breached", "metric": "slow"}, "guardrail slow of b is breached"),
        ({"lifts": {"clicks": -0.06}}, "lift of clicks of b, -6 %, is not within 5 %"),
        ({"lifts": {"engagement": 0.08}}, "engagement of b, +8 %, is not at least +10 %"),
        ({"lift_relative": None, "metric": "clicks"}, "clicks of b, cannot be told yet"),
    ],
)
def test_a_step_is_held_back_with_the_reason(changed: dict[str, Any], why: str) -> None:
    look = rows(**changed)
    if "srm_p" in changed:
        look = [{**row, "srm_p": changed["srm_p"]} for row in look]
    found = ramp(running(), at(4), look)
    assert found is not None and found.opened is None
    assert len(found.held) == 1 and why in found.held[0]
    early = ramp(running(), at(2), look)
    assert early is not None and not early.held


def test_a_gate_may_ask_for_certainty() -> None:
    sure = DEFINITION.replace("within: 5%", "within: 5%, sure: true")
    experiment = replace(running(), definition=load_experiment(sure))
    assert ramp(experiment, at(4), rows()).held == ()  # type: ignore[union-attr]
    held = ramp(experiment, at(4), rows(lifts={"clicks": 0.04})).held  # type: ignore[union-attr]
    assert "+2 % to +6 %" in held[0]


def test_the_last_step_is_the_end() -> None:
    full = replace(running(), opened=3, opened_at=at(5))
    found = ramp(full, at(9), rows(srm_p=0.0))
    assert found is not None
    assert (found.allocation, found.next_allocation, found.opened, found.held) == (
        1,
        None,
        None,
        (),
    )
    assert ramp(full.stopped(at(9), "done"), at(9), rows()) is None


def test_a_control_carries_how_far_it_is() -> None:
    further = replace(running(), opened=2, opened_at=at(3))
    assert of_body("e", further.body()) == further
    assert "opened" not in json.loads(
        replace(further, definition=further.definition.model_copy(update={"gates": None})).body()
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (("metric: clicks, within", "metric: click, within"), "there is no metric click: "),
        (("within: 5%", "within: 5%, at_least: 1"), "takes one of them"),
        (("within: 5%", "withn: 5%"), "did you mean within"),
        (("  metrics:\n    - {metric", "  srmm: 1\n  metrics:\n    - {metric"), "mean srm"),
    ],
)
def test_a_wrong_gate_is_refused_with_its_place(wrong: tuple[str, str], said: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        load_experiment(DEFINITION.replace(*wrong))
    assert said in str(refused.value)
