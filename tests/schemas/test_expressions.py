"""Conditions: what is allowed, and what is said of the rest."""

from __future__ import annotations

import pytest

from streamgauge.schemas.expressions import (
    MAX_DEPTH,
    MAX_LENGTH,
    Absence,
    Among,
    Arithmetic,
    Comparison,
    Constant,
    ExpressionError,
    Field,
    Junction,
    Not,
    fields_of,
    parse_condition,
)
from streamgauge.schemas.profile_fields import FieldKind

FIELDS: dict[str, FieldKind] = {
    "events": "int",
    "score": "float",
    "device": "string",
    "country": "string",
    "known": "bool",
}
EVENTS, SCORE, DEVICE = Field("events", "int"), Field("score", "float"), Field("device", "string")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("events >= 5", Comparison(">=", EVENTS, Constant(5.0))),
        ("  events\n >= 5", Comparison(">=", EVENTS, Constant(5.0))),
        ("-1 < score", Comparison("<", Constant(-1.0), SCORE)),
        ("device == 'tv'", Comparison("==", DEVICE, Constant("tv"))),
        ("device != country", Comparison("!=", DEVICE, Field("country", "string"))),
        ("device in ['tv', 'mobile']", Among(DEVICE, ("tv", "mobile"), False)),
        ("events not in (1, 2)", Among(EVENTS, (1.0, 2.0), True)),
        ("score is None", Absence(SCORE, False)),
        ("score is not None", Absence(SCORE, True)),
        ("known", Field("known", "bool")),
        ("not known", Not(Field("known", "bool"))),
        (
            "score / events > 0.5",
            Comparison(">", Arithmetic("/", SCORE, EVENTS), Constant(0.5)),
        ),
        (
            "1 <= events < 3",
            Junction(
                "and",
                (
                    Comparison("<=", Constant(1.0), EVENTS),
                    Comparison("<", EVENTS, Constant(3.0)),
                ),
            ),
        ),
        (
            "known or events > 1 and score < 2",
            Junction(
                "or",
                (
                    Field("known", "bool"),
                    Junction(
                        "and",
                        (
                            Comparison(">", EVENTS, Constant(1.0)),
                            Comparison("<", SCORE, Constant(2.0)),
                        ),
                    ),
                ),
            ),
        ),
    ],
)
def test_a_condition_is_read(text: str, expected: object) -> None:
    assert parse_condition(text, FIELDS) == expected


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("event >= 5", 1, "did you mean events?"),
        ("events > 1 and scor > 2", 16, "did you mean score?"),
        ("events >= '5'", 11, "a string cannot be compared with a number"),
        ("device > 'a'", 1, "> needs numbers"),
        ("device == 5", 11, "a number cannot be compared with a string"),
        ("device in ['tv', 5]", 18, "a number cannot be compared with a string"),
        ("device in 'tv'", 11, "after `in` comes a list"),
        ("device in [country]", 12, "a list holds numbers or 'texts'"),
        ("events in []", 11, "after `in` comes a list"),
        ("score == None", 10, "write `is None`"),
        ("score is 5", 10, "after `is` comes None"),
        ("5 is None", 1, "only a field can be None"),
        ("known == 1", 1, "a bool is a condition by itself"),
        ("events", 1, "compare it with something"),
        ("5", 1, "this is no condition"),
        ("events + 1", 1, "this is no condition"),
        ("device + 1 > 2", 1, "only numbers can be computed with"),
        ("events > null", 10, "write None for null"),
        ("events > 1 && score > 1", 12, "write and for &&"),
        ("events > 1 || score > 1", 12, "write or for ||"),
        ("events = 5", 8, "write == for ="),
        ("events >", 9, "not a condition"),
        ("", 1, "not a condition"),
        ("(events > 1", 1, "not a condition"),
        ("events > 1 # five", 12, "comment"),
        ("events > 10 ** 9", 10, "this is no value"),
        ("events > 9007199254740993", 10, "numbers end at"),
        ("events > 1e999", 10, "numbers end at"),
        ("len(device) > 2", 1, "this is no value"),
        ("device.upper() == 'TV'", 1, "this is no value"),
        ("__import__('os').system('true') == 0", 1, "this is no value"),
        ("(lambda: 1)() > 0", 1, "this is no value"),
        ("[x for x in events] > 0", 1, "this is no value"),
        ("events > True", 10, "this is no value"),
        ("events > 1j", 10, "this is no value"),
        ("ü > 1 and event > 1", 11, "did you mean events?"),
        ("events > 1\0", 12, "not a condition"),
    ],
)
def test_what_is_wrong_is_named_with_its_column(text: str, column: int, message: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_condition(text, FIELDS)
    faults = {fault.column: fault.message for fault in caught.value.faults}
    assert column in faults, faults
    assert message in faults[column]


def test_everything_wrong_is_named_at_once() -> None:
    with pytest.raises(ExpressionError) as caught:
        parse_condition("event > 1 and devise == 'tv' and score > 'a'", FIELDS)
    assert [fault.column for fault in caught.value.faults] == [1, 15, 42]


@pytest.mark.parametrize(
    "text",
    [
        "(" * 5_000 + "events" + ")" * 5_000,
        "not " * (MAX_DEPTH + 2) + "known",
        "(" * 190 + "events > 1" + ")" * 190 + " and " + "x" * MAX_LENGTH,
        "events" + " + 1" * (MAX_DEPTH + 5) + " > 1",
        "not " * 450 + "known",
    ],
)
def test_what_is_too_deep_or_too_long_is_refused(text: str) -> None:
    with pytest.raises(ExpressionError):
        parse_condition(text, FIELDS)


def test_fields_are_found_wherever_they_are() -> None:
    text = "not (score / events > 1) or device in ['tv'] or country is None or known"
    names = {field.name for field in fields_of(parse_condition(text, FIELDS))}
    assert names == {"score", "events", "device", "country", "known"}
