"""Definitions of experiments: what is refused, with the place and what was meant."""

import json
from dataclasses import replace

import pytest

from streamgauge.schemas.experiments import (
    DAY_MS,
    Experiment,
    load_experiment,
    of_body,
    selection_id,
    selections,
)
from streamgauge.schemas.metric_file import DefinitionError

RIGHT = """
name: feed-ranking
description: Fewer friends, more interests.
variants:
  - {name: control, weight: 60%, config: {interest_based: 0.4}}
  - {name: treatment, weight: 0.4}
allocation: 20%
duration_days: 14
segments: [power]
metrics:
  - name: clicks_per_view
    role: primary
    aggregate: ratio
    numerator: {events: [feed_click]}
    denominator: {events: [feed_view]}
    mde: 5%
  - name: errors
    role: guardrail
    aggregate: mean
    events: [request]
    where: {status: {ge: 500}}
    worse: higher
    limit: 0.1
    stop_on_breach: true
"""


def test_a_definition_says_what_it_says() -> None:
    one = load_experiment(RIGHT)
    assert one.weights == {"control": 0.6, "treatment": 0.4}
    assert one.control_name == "control"
    assert (one.allocation, one.lookback_days, one.alpha) == (0.2, 14, 0.05)
    clicks, errors = one.metrics
    assert clicks.mde is not None and (clicks.mde.value, clicks.mde.relative) == (0.05, True)
    assert errors.limit is not None and (errors.limit.value, errors.limit.relative) == (0.1, False)
    assert [s.events for s in selections(clicks)] == [("feed_click",), ("feed_view",)]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("name: feed-ranking", "name: feed ranking", r":2: name is 'feed ranking'"),
        ("name: feed-ranking\n", "", "name is missing"),
        ("allocation: 20%", "allocation: 120%", ":7: allocation is"),
        ("allocation: 20%", "allocations: 20%", ":7: unknown key allocations: .*mean allocation?"),
        ("allocation: 20%", "allocation: nan", ":7: allocation is"),
        ("allocation: 20%", "control: contol", ":7: there is no variant contol: .*mean control?"),
        ("weight: 60%", "weight: -1", ":5: weight is -1"),
        ("weight: 0.4", "weight: 0", "at least two variants need a weight above 0"),
        ("weight: 0.4", "weigt: 1", ":6: unknown key weigt: .*did you mean weight?"),
        ("name: treatment", "name: control", "already a variant control .number 1."),
        ("name: errors", "name: clicks_per_view", "already a metric clicks_per_view"),
        ("duration_days: 14", "duration_days: 0", ":8: duration_days is 0"),
        ("duration_days: 14", "lookback_days: 90", ":8: lookback_days is 90"),
        ("duration_days: 14", "correction: bonferroni", ":8: correction is 'bonferroni': allowed"),
        ("role: primary", "role: main", "metric clicks_per_view: role is 'main': allowed"),
        ("role: primary", "role: secondary", "one metric needs role: primary"),
        ("aggregate: ratio", "aggregate: median", "aggregate is 'median': allowed"),
        ("[feed_click]", "[feed_clck]", "unknown event type feed_clck: .*mean feed_click?"),
        ("    denominator: {events: [feed_view]}\n", "", "aggregate ratio needs denominator"),
        ("mde: 5%", "mde: lots", "mde is 'lots': allowed: an amount as 0.5, or 5%"),
        ("mde: 5%", "worse: lower", "only a guardrail takes worse, and this one is primary"),
        ("    limit: 0.1\n", "", "metric errors: a guardrail needs limit"),
        (
            "status: {ge: 500}",
            "stats: 5",
            "field stats is unknown to request: .*did you mean status?",
        ),
        ("status: {ge: 500}", "status: {over: 5}", "unknown operator over"),
        ("status: {ge: 500}", "session_id: a", ":21: .*session_id is not read for experiments"),
        ("    events: [request]\n    where: {status: {ge: 500}}\n", "", "mean needs events"),
        ("aggregate: mean", "aggregate: proportion\n    field: status", "takes no field"),
        ("aggregate: mean", "aggregate: mean\n    field: route", "field route is of kind string"),
        (
            "allocation: 20%",
            "schedule: [{day: 3, allocation: 1}, {day: 2, allocation: 1}]",
            "not after",
        ),
        (
            "allocation: 20%",
            "schedule: [{day: 1, allocation: 50%}, {day: 2, allocation: 5%}]",
            "thrown",
        ),
        ("allocation: 20%", "schedule: [{day: 20, allocation: 1}]", "day 20 is after the 14 days"),
        ("allocation: 20%", "allocation: 20%\nallocation: 30%", ":8: allocation is given twice"),
        ("variants:", "variants: [", "not valid YAML"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place_and_what_is_allowed(
    old: str, new: str, said: str
) -> None:
    assert old in RIGHT
    with pytest.raises(DefinitionError, match=said):
        load_experiment(RIGHT.replace(old, new, 1))


@pytest.mark.parametrize("text", ["", "[]", "3", "a: b", "variants: 7\nname: [1]"])
def test_what_is_no_definition_at_all_is_refused(text: str) -> None:
    with pytest.raises(DefinitionError):
        load_experiment(text)


def test_a_schedule_raises_the_allocation_on_its_days() -> None:
    steps = "[{day: 1, allocation: 5%}, {day: 3, allocation: 25%}, {day: 7, allocation: 100%}]"
    one = load_experiment(RIGHT.replace("allocation: 20%", f"schedule: {steps}"))
    days = (0, 1.9, 2, 5.9, 6, 13)
    found = [one.allocation_at(1000, 1000 + int(day * DAY_MS)) for day in days]
    assert found == [0.05, 0.05, 0.25, 0.25, 1.0, 1.0]


def test_a_body_gives_back_what_it_was_made_of() -> None:
    one = Experiment(definition=load_experiment(RIGHT), state="running", started_at=7, version=2)
    assert of_body(one.name, one.body()) == one
    assert one.stopped(9, "why").version == 3
    assert one.control().name == "feed-ranking"


@pytest.mark.parametrize(
    "body",
    [
        "",
        "7",
        "[]",
        "{}",
        '{"state": "running", "definition": {}}',
        '{"state": "over", "definition": {}}',
        '{"state": "created", "definition": {"name": "feed-ranking"}}',
        '{"state": "created", "started_at": "now", "definition": {}}',
        json.dumps({"state": "created", "definition": None}),
    ],
)
def test_a_body_that_the_command_line_did_not_write_is_refused(body: str) -> None:
    with pytest.raises(DefinitionError, match="feed-ranking"):
        of_body("feed-ranking", body)


def test_a_body_under_another_name_is_refused() -> None:
    body = Experiment(definition=load_experiment(RIGHT)).body()
    with pytest.raises(DefinitionError, match="other is defined as feed-ranking"):
        of_body("other", body)


def test_words_and_allocation_do_not_change_what_an_experiment_means() -> None:
    one = Experiment(definition=load_experiment(RIGHT), started_at=7)
    for old, new, same in (
        ("allocation: 20%", "allocation: 50%", True),
        ("Fewer friends", "No friends", True),
        ("interest_based: 0.4", "interest_based: 0.6", True),
        ("weight: 0.4", "weight: 0.6", False),
        ("[feed_click]", "[feed_view]", False),
    ):
        other = replace(one, definition=load_experiment(RIGHT.replace(old, new)))
        assert (other.meaning == one.meaning) == same


def test_equal_selections_have_equal_ids() -> None:
    first, second = (load_experiment(RIGHT.replace("name: errors", f"name: {n}")) for n in "ab")
    ids = [[selection_id(s) for m in one.metrics for s in selections(m)] for one in (first, second)]
    assert ids[0] == ids[1] and len(set(ids[0])) == 3
