"""Rules of segments: the built-in set, files, and what is said of wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from streamgauge.schemas.metric_file import DefinitionError
from streamgauge.schemas.segments import MAX_SEGMENTS, builtin, load_rules

ONE = """
extends: none
segments:
  - name: keen
    description: Comes often.
    enter: active_days_7 >= 3
    leave: active_days_7 < 2
"""


def test_the_built_in_set_has_the_names_that_people_ask_for() -> None:
    names = {segment.name for segment in builtin().segments}
    asked = {"new", "active", "power", "at-risk", "dormant", "binger", "explorer"}
    assert asked | {"struggling-learner"} <= names


def test_every_built_in_segment_says_what_it_is() -> None:
    assert all(segment.rule.description.endswith(".") for segment in builtin().segments)


def test_a_file_adds_to_the_built_in_set_and_replaces_what_has_the_same_name() -> None:
    rules = load_rules("segments: [{name: new, enter: events < 3}, {name: zeal, enter: plays > 1}]")
    by_name = {segment.name: segment for segment in rules.segments}
    assert by_name["new"].rule.enter == "events < 3"
    assert len(rules.segments) == len(builtin().segments) + 1
    assert list(by_name) == sorted(by_name)


def test_a_segments_version_is_that_of_its_meaning() -> None:
    (one,) = load_rules(ONE).segments
    (same,) = load_rules(ONE.replace(">= 3", ">=   3.0").replace("often", "a lot")).segments
    (other,) = load_rules(ONE.replace("< 2", "< 1")).segments
    assert one.version == same.version != other.version
    assert one.version == "0fbfcd11"  # of what is in the changelogs of those who run it


def test_rules_survive_the_way_through_a_control() -> None:
    rules = load_rules(ONE, version=3)
    assert load_rules(rules.body(), version=3) == rules
    assert rules.label == "rule v3"
    assert load_rules(builtin().body()) == builtin()


def test_a_rules_fields_are_those_of_both_conditions() -> None:
    (one,) = load_rules(ONE.replace("< 2", "< 2 or events < 5")).segments
    assert one.fields == ("active_days_7", "events")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            ONE.replace("enter: active_days_7", "enter: active_day_7"),
            "<text>:6: segment keen: enter, column 1: unknown field active_day_7",
        ),
        (ONE.replace("active_day_7", "x").replace("enter: active", "enter: a"), "did you mean"),
        (
            ONE.replace("leave: active_days_7 <", "leave: active_days_7 <<"),
            "<text>:7: segment keen",
        ),
        (ONE.replace("enter:", "entre:"), "did you mean enter?"),
        (
            ONE.replace("    enter: active_days_7 >= 3\n", ""),
            "<text>:4: segment keen: enter is missing",
        ),
        (ONE.replace("name: keen", "name: Keen Ones"), "<text>:4: segment Keen Ones: name is"),
        (ONE.replace("none", "nothing"), "<text>:2: extends is 'nothing'"),
        (ONE + ONE.partition("segments:\n")[2], "<text>:8: segment keen: there is already"),
        (ONE.replace("enter: active_days_7 >= 3", "enter: true"), "<text>:6: segment keen: enter"),
        ("segments: {", "<text>:1: not valid YAML"),
        ("segments: 5", "<text>:1: segments is 5"),
        ("- 1", "<text>:1"),
    ],
)
def test_what_is_wrong_is_named_with_line_and_place(text: str, problem: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        load_rules(text)
    assert problem in str(caught.value)


def test_there_can_be_as_many_segments_as_a_mask_has_bits() -> None:
    def text(count: int) -> str:
        return "extends: none\nsegments:\n" + "".join(
            f"  - {{name: s{number}, enter: events > {number}}}\n" for number in range(count)
        )

    assert len(load_rules(text(MAX_SEGMENTS)).segments) == MAX_SEGMENTS
    with pytest.raises(DefinitionError, match="there can be 63"):
        load_rules(text(MAX_SEGMENTS + 1))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="cannot be read"):
        load_rules(tmp_path / "rules.yaml")
