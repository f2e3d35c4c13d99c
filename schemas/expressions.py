"""Conditions over fields, as people write them: `active_days_7 >= 5 and device_type == 'tv'`.

    text ── Python's own parser ──> syntax tree ── a short list of what is allowed ──> Expression

Upstream: rules of segments. Downstream: `streams.segments` makes columns of an Expression, `verify`
walks it for one user. Python's parser (`ast`) reads the text and nothing is ever executed:
engines that evaluate rules do so row by row, and a grammar of one's own would be more code.

What is allowed, and what it means:

- `and`, `or`, `not`, parentheses; `< <= > >= == !=`, also in a row (`5 <= events < 10`);
  `+ - * /` between numbers; `in [..]` and `not in [..]` with values; `is None`, `is not None`.
- Values are fields, numbers and 'texts'. A bool field is a condition by itself.
- Numbers are doubles. A division by zero is absent, and so is what is computed of absent values.
- A comparison with an absent value does not hold, whatever its operator (`not (x > 3)` does hold,
  where x is absent). `is None` asks whether a field is absent.

Invariants: an Expression is well typed; a fault says in which column it is, and what is allowed.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from streamgauge.schemas.metric_file import suggest
from streamgauge.schemas.profile_fields import FieldKind

MAX_LENGTH = 2_000
"""Characters of an expression."""

MAX_DEPTH = 50

Kind = Literal["number", "string", "bool", "unknown"]
"""Of a value; unknown: it is wrong already."""


@dataclass(frozen=True)
class Field:
    name: str
    kind: FieldKind


@dataclass(frozen=True)
class Constant:
    value: float | str


@dataclass(frozen=True)
class Arithmetic:
    operator: Literal["+", "-", "*", "/"]
    left: Value
    right: Value


@dataclass(frozen=True)
class Comparison:
    """Of two numbers, or of two texts, which are equal or not."""

    operator: Literal["<", "<=", ">", ">=", "==", "!="]
    left: Value
    right: Value


@dataclass(frozen=True)
class Among:
    """Whether a value that is there is one of these; or, `negated`, none of them."""

    value: Value
    options: tuple[float | str, ...]
    negated: bool


@dataclass(frozen=True)
class Absence:
    field: Field
    negated: bool


@dataclass(frozen=True)
class Not:
    condition: Expression


@dataclass(frozen=True)
class Junction:
    operator: Literal["and", "or"]
    conditions: tuple[Expression, ...]


Value = Field | Constant | Arithmetic
Expression = Field | Comparison | Among | Absence | Not | Junction
"""A condition; a Field is one where it is of kind bool."""


@dataclass(frozen=True)
class ExpressionFault:
    column: int
    """From 1."""
    message: str


class ExpressionError(ValueError):
    """A text that is no condition; with everything that is wrong with it."""

    def __init__(self, faults: Iterable[ExpressionFault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"column {f.column}: {f.message}" for f in self.faults))


def parse_condition(text: str, fields: Mapping[str, FieldKind]) -> Expression:
    """The condition that a text says, or an ExpressionError."""
    if len(text) > MAX_LENGTH:
        raise ExpressionError(
            [
                ExpressionFault(
                    MAX_LENGTH + 1, f"longer than {MAX_LENGTH} characters: split the rule"
                )
            ]
        )
    flat = text.replace("\n", " ").replace("\t", " ")
    if "#" in flat:
        message = "a # would begin a comment: put comments beside the rule, in YAML"
        raise ExpressionError([ExpressionFault(flat.index("#") + 1, message)])
    start = len(flat) - len(flat.lstrip())
    try:
        tree = ast.parse(flat.strip(), mode="eval").body
    except SyntaxError as error:
        # Python says 0 where the text ends too early.
        column = start + min(error.offset or MAX_LENGTH, len(flat.strip()) + 1)
        raise ExpressionError([_syntax(flat, column, error.msg)]) from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise ExpressionError([ExpressionFault(1, f"cannot be read: {error}")]) from None
    reader = _Reader(flat.strip(), start, fields)
    condition = reader.condition(tree, 0)
    if reader.faults:
        raise ExpressionError(sorted(reader.faults, key=lambda fault: fault.column))
    return condition


def fields_of(expression: Expression | Value) -> Iterator[Field]:
    """Every field that is read, as often as it is."""
    match expression:
        case Field():
            yield expression
        case Absence(field):
            yield field
        case Not(condition):
            yield from fields_of(condition)
        case Among(value):
            yield from fields_of(value)
        case Arithmetic(_, left, right) | Comparison(_, left, right):
            yield from fields_of(left)
            yield from fields_of(right)
        case Junction(_, conditions):
            for condition in conditions:
                yield from fields_of(condition)


_COMPARE: dict[type[ast.cmpop], Literal["<", "<=", ">", ">=", "==", "!="]] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}
_ARITHMETIC: dict[type[ast.operator], Literal["+", "-", "*", "/"]] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
}
_ALLOWED = (
    "allowed: and, or, not, < <= > >= == !=, + - * /, in [..], not in [..], is None,"
    " is not None, fields, numbers, 'texts'"
)
_ELSEWHERE = {"null": "None", "nil": "None", "none": "None", "AND": "and", "OR": "or", "NOT": "not"}
"""What other languages say."""

_NOTHING = Constant(0.0)
"""In place of what is wrong."""


def _syntax(text: str, column: int, message: str) -> ExpressionFault:
    for other, ours in (("&&", "and"), ("||", "or"), ("<>", "!="), (" = ", "=="), ("!", "not")):
        at = text.replace("!=", "  ").find(other)
        if at >= 0:
            column = at + 1 + (other == " = ")
            return ExpressionFault(column, f"not a condition: write {ours} for {other.strip()}")
    return ExpressionFault(column, f"not a condition: {message}; {_ALLOWED}")


class _Reader:
    """From Python's tree to ours; gathers what is wrong."""

    def __init__(self, text: str, start: int, fields: Mapping[str, FieldKind]) -> None:
        self._bytes = text.encode()
        self._start = start
        self._fields = fields
        self.faults: list[ExpressionFault] = []

    def condition(self, node: ast.expr, depth: int) -> Expression:
        if depth > MAX_DEPTH:
            return self._wrong(node, f"more than {MAX_DEPTH} levels deep: split the rule")
        match node:
            case ast.BoolOp(ast.And() | ast.Or() as operator, values):
                return Junction(
                    "and" if isinstance(operator, ast.And) else "or",
                    tuple(self.condition(value, depth + 1) for value in values),
                )
            case ast.UnaryOp(ast.Not(), operand):
                return Not(self.condition(operand, depth + 1))
            case ast.Compare(left, operators, rights):
                sides = [left, *rights]
                parts = [
                    self._comparison(sides[at], operator, sides[at + 1], depth)
                    for at, operator in enumerate(operators)
                ]
                return parts[0] if len(parts) == 1 else Junction("and", tuple(parts))
            case ast.Name():
                value, kind = self._value(node, depth)
                if isinstance(value, Field) and kind == "bool":
                    return value
                if kind == "unknown":
                    return Not(Junction("and", ()))
                return self._wrong(node, f"{node.id} is of kind {kind}: compare it with something")
        return self._wrong(node, f"this is no condition; {_ALLOWED}")

    def _comparison(
        self, left: ast.expr, operator: ast.cmpop, right: ast.expr, depth: int
    ) -> Expression:
        value, kind = self._value(left, depth)
        if isinstance(operator, ast.Is | ast.IsNot):
            if not (isinstance(right, ast.Constant) and right.value is None):
                return self._wrong(right, "after `is` comes None, or not None")
            if not isinstance(value, Field):
                return self._wrong(left, "only a field can be None")
            return Absence(value, isinstance(operator, ast.IsNot))
        if isinstance(operator, ast.In | ast.NotIn):
            options = self._options(right, kind)
            return Among(value, options, isinstance(operator, ast.NotIn))
        other, other_kind = self._value(right, depth)
        symbol = _COMPARE[type(operator)]
        kinds = {kind, other_kind} - {"unknown"}
        if "bool" in kinds:
            which = left if kind == "bool" else right
            return self._wrong(which, "a bool is a condition by itself: alone, or after not")
        if len(kinds) == 2:
            return self._wrong(right, f"a {other_kind} cannot be compared with a {kind}")
        if "string" in kinds and symbol not in ("==", "!="):
            return self._wrong(left, f"{symbol} needs numbers, not a string: allowed: == !=")
        return Comparison(symbol, value, other)

    def _options(self, node: ast.expr, kind: Kind) -> tuple[float | str, ...]:
        if not isinstance(node, ast.List | ast.Tuple | ast.Set) or not node.elts:
            self._wrong(node, "after `in` comes a list of values, as in ['tv', 'desktop']")
            return ()
        options = []
        for item in node.elts:
            value, item_kind = self._value(item, MAX_DEPTH)
            if not isinstance(value, Constant):
                self._wrong(item, "a list holds numbers or 'texts'")
            elif "unknown" not in (kind, item_kind) and kind != item_kind:
                self._wrong(item, f"a {item_kind} cannot be compared with a {kind}")
            else:
                options.append(value.value)
        return tuple(options)

    def _value(self, node: ast.expr, depth: int) -> tuple[Value, Kind]:
        if depth > MAX_DEPTH:
            self._wrong(node, f"more than {MAX_DEPTH} levels deep: split the rule")
            return _NOTHING, "unknown"
        match node:
            case ast.Name(name):
                return self._field(node, name)
            case ast.Constant(str(text)):
                return Constant(text), "string"
            case ast.Constant(int(number) | float(number)) if not isinstance(number, bool):
                return self._number(node, number)
            case ast.UnaryOp(ast.USub(), ast.Constant(int(number) | float(number))):
                return self._number(node, -number)
            case ast.BinOp(left, operator, right) if type(operator) in _ARITHMETIC:
                sides = [(side, *self._value(side, depth + 1)) for side in (left, right)]
                for side, _, kind in sides:
                    if kind not in ("number", "unknown"):
                        self._wrong(side, f"only numbers can be computed with, not a {kind}")
                symbol = _ARITHMETIC[type(operator)]
                return Arithmetic(symbol, sides[0][1], sides[1][1]), "number"
            case ast.Constant(None):
                self._wrong(node, "None is not equal to anything: write `is None`, `is not None`")
                return _NOTHING, "unknown"
        self._wrong(node, f"this is no value; {_ALLOWED}")
        return _NOTHING, "unknown"

    def _number(self, node: ast.expr, number: float) -> tuple[Value, Kind]:
        if abs(number) > 2**53:
            self._wrong(node, "numbers end at ±2^53")
            return _NOTHING, "unknown"
        return Constant(float(number)), "number"

    def _field(self, node: ast.Name, name: str) -> tuple[Value, Kind]:
        kind = self._fields.get(name)
        if kind == "int" or kind == "float":
            return Field(name, kind), "number"
        if kind is not None:
            return Field(name, kind), kind
        if name in _ELSEWHERE:
            self._wrong(node, f"write {_ELSEWHERE[name]} for {name}")
        else:
            self._wrong(node, f"unknown field {name}: {suggest(name, self._fields)}")
        return _NOTHING, "unknown"

    def _wrong(self, node: ast.expr, message: str) -> Expression:
        column = self._start + len(self._bytes[: node.col_offset].decode()) + 1
        self.faults.append(ExpressionFault(column, message))
        return Not(Junction("and", ()))
