"""Each kind of planted difference is found, and nothing else is."""

from dataclasses import replace

import pytest

from streamgauge.cli.verify import compare
from streamgauge.cli.verify.cells import Bound, Cell, CellKey, Name, canonical

KEY = CellKey("views", "1m", 1_760_000_400_000, "ab12cd34", '{"page":"/a"}')
CELL = Cell(3.0, 3.0, 1.0, 2, True)


def found(cells, expected=None):
    return compare.cells("metrics", expected or {KEY: CELL}, cells).differences


def test_equal_cells_are_no_difference():
    assert not found({KEY: CELL})


@pytest.mark.parametrize(
    "wrong",
    [
        replace(CELL, value=4.0, numerator=4.0),  # a count that is off by one
        replace(CELL, value=3.0000001),
        replace(CELL, denominator=2.0),
        replace(CELL, users=3),
        replace(CELL, users=None),
        replace(CELL, is_final=False),
    ],
)
def test_a_cell_that_is_off_anywhere_is_a_difference(wrong):
    (difference,) = found({KEY: wrong})
    assert difference.key == str(KEY)
    assert (difference.expected, difference.found) == (str(CELL), str(wrong))


def test_a_missing_row_and_a_row_too_many_are_differences():
    extra = KEY._replace(window_start=KEY.window_start + 60_000)
    missing, surplus = found({extra: CELL})
    assert (missing.found, surplus.expected) == (compare.NOTHING, compare.NOTHING)
    assert surplus.key == str(extra)


@pytest.mark.parametrize(
    ("bound", "expected", "near", "far"),
    [
        (Bound.EXACT, 1e12, 1e12, 1e12 + 1),
        (Bound.QUANTILE, 200.0, 201.9, 202.1),
        (Bound.QUANTILE, 0.0, 1e-7, 1e-4),
        (Bound.USERS, 1000.0, 1039.0, 1041.0),
        (Bound.USERS, 500.0, 500.0, 501.0),
    ],
)
def test_only_sketches_have_a_bound(bound, expected, near, far):
    cell = Cell(expected, expected, 1.0, None, False, bound)
    for value, differs in ((near, False), (far, True)):
        assert bool(found({KEY: Cell(value, value, 1.0, None, False)}, {KEY: cell})) is differs


def test_users_of_a_minute_are_exact_and_of_an_hour_within_the_sketchs_bound():
    off = replace(CELL, users=1010)
    assert found({KEY: off}, {KEY: replace(CELL, users=1000)})
    hour = KEY._replace(window_size="1h")
    assert not found({hour: off}, {hour: replace(CELL, users=1000)})


NAME = Name(KEY.metric, KEY.window_size, KEY.window_start, KEY.dimensions)


def in_redis(values, expired=lambda key: False):
    return compare.values("redis", {KEY: CELL}, values, expired)


def test_redis_agrees_by_value():
    assert not in_redis({NAME: 3.0}).differences
    (difference,) = in_redis({NAME: 4.0}).differences
    assert difference.found == "4.0"


def test_a_value_missing_in_redis_is_excused_only_when_its_time_has_passed():
    assert in_redis({}).differences
    comparison = in_redis({}, expired=lambda key: True)
    assert (comparison.excused, comparison.differences) == (1, [])
    assert in_redis({NAME: 9.0}, expired=lambda key: True).differences


def test_a_value_too_many_in_redis_is_a_difference():
    comparison = in_redis({NAME: 3.0, NAME._replace(metric="other"): 1.0})
    assert [each.expected for each in comparison.differences] == [compare.NOTHING]


def test_dead_letters_are_compared_by_offset_and_reason():
    expected = {(0, 1): "undecodable", (0, 2): "future"}
    assert not compare.records("dead-letters", expected, dict(expected)).differences
    wrong = compare.records("dead-letters", expected, {(0, 1): "invalid", (1, 9): "future"})
    assert [(d.key, d.expected, d.found) for d in wrong.differences] == [
        ("0/1", "undecodable", "invalid"),
        ("0/2", "future", compare.NOTHING),
        ("1/9", compare.NOTHING, "future"),
    ]


def test_a_repeated_dead_letter_is_a_difference():
    assert compare.records("dead-letters", {(0, 1): "x"}, {(0, 1): "x"}, twice=1).differences


def test_dimensions_compare_whatever_their_spacing_order_and_escapes():
    assert canonical('{"b": null, "a": "caf\\u00e9"}') == '{"a":"café","b":null}'
