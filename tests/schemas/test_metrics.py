"""Definitions: what is accepted, what it becomes, and what a wrong one is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from streamgauge.schemas.envelope import COLUMNS, EVENT_TYPES
from streamgauge.schemas.events import Event
from streamgauge.schemas.metric_fields import DERIVED, field_kind
from streamgauge.schemas.metrics import (
    CATALOGUE,
    DefinitionError,
    builtin,
    load_definitions,
    percentile,
)


def problems(text: str) -> list[str]:
    with pytest.raises(DefinitionError) as caught:
        load_definitions(text, "my.yaml")
    assert str(caught.value) == "\n".join(caught.value.problems)
    return list(caught.value.problems)


def only(line: str) -> str:
    return f"metrics:\n  - name: mine\n    {line}\n"


@pytest.fixture
def signup() -> Iterator[type[Event]]:
    class Signup(Event):
        event_type: Literal["signup"] = "signup"
        plan: str | None = None
        price: float | None = None

    yield Signup
    del EVENT_TYPES["signup"], COLUMNS["plan"], COLUMNS["price"]


def test_the_catalogue_loads_and_every_metric_says_what_it_is() -> None:
    series = builtin().series()
    assert len(series) >= 45
    assert all(one.description for one in series)
    assert [one.name for one in series] == sorted(one.name for one in series)
    names = {one.name for one in series}
    assert {"page_views", "active_users", "response_time_quantiles_p95", "error_rate"} <= names


def test_one_grain_for_each_set_of_dimensions_and_windows() -> None:
    grains = builtin().grains()
    assert len({grain.version for grain in grains}) == len(grains)
    assert len({(grain.dimensions, grain.windows) for grain in grains}) == len(grains)
    assert all(list(g.dimensions) == sorted(g.dimensions) for g in grains)


def test_a_metric_of_ones_own_comes_beside_the_catalogue() -> None:
    definitions = load_definitions(only("aggregate: count"))
    assert {m.name for m in definitions.metrics} == {m.name for m in builtin().metrics} | {"mine"}


def test_the_catalogue_can_be_left_out() -> None:
    assert len(load_definitions("extends: none\n" + only("aggregate: count")).metrics) == 1
    assert load_definitions("extends: none").grains() == []
    assert load_definitions("") == builtin()


def test_a_metric_of_the_same_name_replaces_the_catalogues() -> None:
    definitions = load_definitions(
        "metrics: [{name: page_views, events: [request], aggregate: count}]"
    )
    assert len(definitions.metrics) == len(builtin().metrics)
    [mine] = [m for m in definitions.metrics if m.name == "page_views"]
    assert mine.events == ("request",)


def test_a_version_changes_with_the_meaning_and_with_nothing_else() -> None:
    def version(line: str) -> str:
        [grain] = load_definitions("extends: none\n" + only(line)).grains()
        return grain.version

    plain = version("{}".format("aggregate: count\n    events: [rating, search]"))
    assert plain == version("events: [search, rating]\n    aggregate: count\n    unit: x")
    assert plain == version("aggregate: count\n    events: [rating, search]\n    description: d")
    assert plain != version("aggregate: count\n    events: [rating]")
    assert plain != version("aggregate: count\n    events: [rating, search]\n    windows: [1h]")
    assert len(plain) == 8


def test_a_second_distinct_users_metric_gets_a_grain_of_its_own() -> None:
    definitions = load_definitions(
        """
extends: none
metrics:
  - {name: a, aggregate: distinct_users}
  - {name: b, aggregate: distinct_users, events: [rating]}
  - {name: c, aggregate: count}
"""
    )
    names = [[m.name for m in g.metrics] for g in definitions.grains()]
    assert sorted(names) == [["a", "c"], ["b"]]
    assert [g.users.name for g in definitions.grains() if g.users] == ["a", "b"]


def test_breakdowns_and_quantiles_make_grains_and_series() -> None:
    definitions = load_definitions(
        """
extends: none
metrics:
  - name: t
    events: [request]
    aggregate: quantiles
    field: duration_ms
    quantiles: [0.999, 0.5]
    by: [[], [route, method_name], [method_name, route]]
    windows: [1d, 1m]
"""
    )
    grains = definitions.grains()
    assert [g.dimensions for g in grains] == [("method_name", "route"), ()]
    assert grains[0].windows == ("1m", "1d")
    assert grains[0].metrics[0].series == ("t_p50", "t_p99_9")
    assert [s.name for s in definitions.series()] == ["t_p50", "t_p99_9"]
    assert percentile(0.5) == "p50"


def test_conditions_are_a_value_a_list_or_operators() -> None:
    [grain] = load_definitions(
        "extends: none\n"
        + only(
            "aggregate: count\n    events: [request]\n    where: {route: [/b, /a],"
            " status: {ge: 500}, cache_hit: true, error_type: {not_null: true}}"
        )
    ).grains()
    where = [(c.field, c.operator, c.value) for c in grain.metrics[0].selection.where]
    assert where == [
        ("cache_hit", "eq", True),
        ("error_type", "not_null", True),
        ("route", "in", ("/a", "/b")),
        ("status", "ge", 500),
    ]


def test_a_real_field_is_scaled_and_an_integer_is_not() -> None:
    grains = load_definitions(
        """
extends: none
metrics:
  - {name: a, events: [rating], aggregate: sum, field: score}
  - {name: b, events: [search], aggregate: sum, field: results_count}
  - {name: c, events: [request], aggregate: mean, field: cache_hit}
"""
    ).grains()
    selections = {m.name: m.selection for m in grains[0].metrics}
    assert {n: (s.kind, s.scale) for n, s in selections.items()} == {
        "a": ("float", 1_000_000),
        "b": ("int", 1),
        "c": ("bool", 1),
    }


def test_a_type_of_ones_own_can_be_counted(signup: type[Event]) -> None:
    text = "events: [signup]\n    aggregate: mean\n    field: price\n    dimensions: [plan]"
    assert load_definitions(only(text)).grains()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("aggregate: cuont", "my.yaml:3: metric mine: aggregate is 'cuont': allowed: 'count', "),
        ("aggregate: count\n    event: [rating]", "my.yaml:4: metric mine: unknown key event: "),
        ("aggregate: count\n    event: [rating]", "did you mean events?"),
        ("aggregate: count\n    events: [page_veiw]", "my.yaml:4: metric mine: unknown event type"),
        ("aggregate: count\n    events: [page_veiw]", "did you mean page_view?"),
        ("aggregate: count\n    events: []", "my.yaml:4: metric mine: events is []"),
        ("aggregate: count\n    windows: [5m]", "allowed: '1m', '1h' or '1d'"),
        ("description: none", "my.yaml:2: metric mine: aggregate is missing"),
        ("aggregate: sum", "my.yaml:2: metric mine: aggregate sum needs field"),
        ("aggregate: ratio", "aggregate ratio needs denominator"),
        (
            "aggregate: count\n    field: x",
            "my.yaml:4: metric mine: aggregate count takes no field",
        ),
        (
            "aggregate: sum\n    events: [rating]\n    field: scor",
            "my.yaml:5: metric mine: field scor",
        ),
        ("aggregate: sum\n    events: [rating]\n    field: scor", "did you mean score?"),
        ("aggregate: sum\n    field: page_url", "page_url is of kind string: allowed here: int, "),
        ("aggregate: sum\n    field: score", "score is unknown to every event type (or name the"),
        ("aggregate: count\n    dimensions: [pagee]", "did you mean page?"),
        ("aggregate: count\n    dimensions: [timestamp]", "dimension timestamp is of kind time"),
        ("aggregate: count\n    by: [[]]\n    dimensions: []", "give either by or dimensions"),
        ("aggregate: count\n    where: {osx: a}", "my.yaml:4: metric mine: field osx is unknown"),
        ("aggregate: count\n    where: {os: 5}", "os is of kind string and cannot be 5"),
        (
            "aggregate: count\n    where: {os: {lt: a}}",
            "lt needs a number, and os is of kind string",
        ),
        ("aggregate: count\n    where: {os: {is: a}}", "unknown operator is: allowed: eq, ge, "),
        (
            "aggregate: count\n    where: {os: {in: a}}",
            "in of os is 'a': allowed: a list of values",
        ),
        ("aggregate: count\n    where: {os: []}", "in of os is []: allowed: a list of values"),
        ("aggregate: count\n    where: {os: {eq: [a]}}", "eq of os is ['a']: allowed: one value"),
        ("aggregate: count\n    where: {os: {not_null: 1}}", "not_null is 1: allowed: true, false"),
        ("aggregate: count\n    where: {os: {}}", "no condition for os: allowed: a value, "),
        ("aggregate: count\n    where: {consent_analytics: 1}", "cannot be 1"),
        ("aggregate: count\n    where: {timestamp: {gt: true}}", "kind time and cannot be True"),
        (
            "aggregate: quantiles\n    events: [rating]\n    field: score\n    quantiles: [50]",
            "is 50",
        ),
        ("aggregate: count\n    aggregate: sum", "my.yaml:4: aggregate is given twice"),
        ("aggregate: [", "not valid YAML"),
        (
            "aggregate: count\n  - name: mine\n    aggregate: count",
            "my.yaml:4: metric mine: there is",
        ),
        (
            "aggregate: ratio\n    where: {os: a}\n    numerator: {evnts: [rating]}\n"
            "    denominator: {}",
            "my.yaml:5: metric mine: unknown key evnts: allowed: events, field, where; did",
        ),
        (
            "aggregate: ratio\n    where: {os: a}\n    numerator: {}\n    denominator: {}",
            "my.yaml:5: metric mine: events and where of a ratio stand in its two parts",
        ),
        (
            "aggregate: ratio\n    numerator: {events: [rating]}\n    denominator: {}\n"
            "    dimensions: [item_id]",
            "my.yaml:6: metric mine: dimension item_id is unknown to every event type",
        ),
        (
            "aggregate: count\n  - name: page_views_p50\n    aggregate: count\n"
            "  - {name: page_views, events: [request], aggregate: quantiles, field: duration_ms,"
            " quantiles: [0.5]}",
            "my.yaml: several metrics have a series page_views_p50: rename all but one",
        ),
    ],
)
def test_a_wrong_definition_is_told_where_what_and_what_is_allowed(line: str, problem: str) -> None:
    found = problems(only(line))
    assert any(problem in one for one in found), found


def test_all_problems_come_at_once() -> None:
    found = problems(
        "metrics:\n  - {name: a, aggregate: sum}\n  - {name: b, events: [x], aggregate: count}\n"
    )
    assert [one.split(":")[1] for one in found] == ["2", "3"]


def test_a_file_is_named_in_its_problems(tmp_path: Path) -> None:
    path = tmp_path / "metrics.yaml"
    with pytest.raises(DefinitionError, match=r"metrics\.yaml: cannot be read"):
        load_definitions(path)
    path.write_text("metrics: 5")
    with pytest.raises(DefinitionError, match=r"metrics\.yaml:1: metrics is 5"):
        load_definitions(path)
    path.write_text("nothing")
    with pytest.raises(DefinitionError, match=r"metrics\.yaml:1: the file is 'nothing'"):
        load_definitions(path)
    assert load_definitions(CATALOGUE) == builtin()


@pytest.mark.parametrize(
    ("event_type", "field", "kind"),
    [
        ("rating", "score", "float"),
        ("request", "cache_hit", "bool"),
        ("feed_view", "published_at", "time"),
        ("playback", "action", "string"),
        ("playback", "watched_hours", "float"),
        ("rating", "watched_hours", None),
        ("search", "filters", None),
        ("search", "nothing", None),
    ],
)
def test_fields_and_their_kinds(event_type: str, field: str, kind: Any) -> None:
    assert field_kind(EVENT_TYPES[event_type], field) == kind


def test_derived_fields_hide_no_real_ones() -> None:
    assert not set(DERIVED) & set(COLUMNS)


@pytest.mark.parametrize("field", ["user_id", "anonymous_id", "session_id", "event_id"])
def test_a_person_is_no_dimension(field):
    with pytest.raises(DefinitionError, match=f"{field} names one person or event"):
        load_definitions(
            "extends: none\nmetrics:\n  - name: views\n    description: Views.\n"
            f"    events: [page_view]\n    aggregate: count\n    dimensions: [{field}]\n"
        )
