"""Conditions over columns are what the same conditions say of each row."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgauge.schemas.expressions import parse_condition
from streamgauge.schemas.profile_fields import FieldKind
from streamgauge.streams.segments.conditions import columns_of, holds
from tests.streams.segments import oracle

FIELDS: dict[str, FieldKind] = {
    "a": "int",
    "b": "float",
    "s": "string",
    "t": "string",
    "k": "bool",
}
SCHEMA = {"a": pl.Int64, "b": pl.Float64, "s": pl.String, "t": pl.String, "k": pl.Boolean}
TEXTS = ["tv", "mobile", ""]

numbers = st.recursive(
    st.sampled_from(["a", "b", "0", "1", "2.5", "-1"]),
    lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from("+-*/"), inner),
    max_leaves=4,
)
texts = st.sampled_from(["s", "t", "'tv'", "'mobile'"])
is_in = st.sampled_from(["in", "not in"])
leaves = st.one_of(
    st.builds(
        "{} {} {}".format, numbers, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), numbers
    ),
    st.builds("{} < {} <= {}".format, numbers, numbers, numbers),
    st.builds("{} {} {}".format, texts, st.sampled_from(["==", "!="]), texts),
    st.builds("{} {} ['tv', 'x']".format, texts, is_in),
    st.builds("{} {} [0, 2.5]".format, numbers, is_in),
    st.builds("{} {} None".format, st.sampled_from("abst"), st.sampled_from(["is", "is not"])),
    st.just("k"),
)
conditions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds("({} and {})".format, inner, inner),
        st.builds("({} or {})".format, inner, inner),
        st.builds("not ({})".format, inner),
    ),
    max_leaves=6,
)
rows = st.lists(
    st.fixed_dictionaries(
        {
            "a": st.none() | st.integers(-2, 3),
            "b": st.none() | st.sampled_from([-1.0, 0.0, 0.5, 2.5, 1e300]),
            "s": st.none() | st.sampled_from(TEXTS),
            "t": st.none() | st.sampled_from(TEXTS),
            "k": st.none() | st.booleans(),
        }
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=200, deadline=None)
@given(conditions, rows)
def test_columns_say_what_rows_say(text: str, given_: list[dict[str, object]]) -> None:
    frame = pl.DataFrame(given_, schema=SCHEMA)
    columns = columns_of(frame, list(FIELDS))
    found = holds(parse_condition(text, FIELDS), columns, frame.height)
    assert found.tolist() == [oracle.holds(text, row) for row in given_]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a > 3", [True, False, False]),
        ("not a > 3", [False, True, True]),
        ("a != 3", [True, True, False]),
        ("a not in [3]", [True, True, False]),
        ("a is None", [False, False, True]),
        ("a / b > 1", [False, True, False]),
    ],
)
def test_what_is_absent_is_in_no_comparison(text: str, expected: list[bool]) -> None:
    frame = pl.DataFrame({"a": [5, 2, None], "b": [0.0, 1.0, 1.0]})
    found = holds(parse_condition(text, FIELDS), columns_of(frame, ["a", "b"]), 3)
    assert found.tolist() == expected
