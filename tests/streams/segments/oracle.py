"""Conditions and membership in plain Python, one user after the other: what must come out."""

from __future__ import annotations

import ast
import operator
from collections.abc import Iterable, Mapping
from typing import Any

OPERATORS = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.In: lambda one, two: one in two,
    ast.NotIn: lambda one, two: one not in two,
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: lambda one, two: one / two if two else None,
}


def value(node: Any, row: Mapping[str, Any]) -> Any:
    """Of a syntax tree of Python's, for one user; numbers are floats."""
    match node:
        case ast.Expression(body):
            return value(body, row)
        case ast.BoolOp(ast.And(), values):
            return all(value(one, row) for one in values)
        case ast.BoolOp(ast.Or(), values):
            return any(value(one, row) for one in values)
        case ast.UnaryOp(ast.Not(), operand):
            return not value(operand, row)
        case ast.UnaryOp(ast.USub(), operand):
            return -value(operand, row)
        case ast.BinOp(left, how, right):
            one, two = value(left, row), value(right, row)
            return None if one is None or two is None else OPERATORS[type(how)](one, two)
        case ast.Compare(left, [ast.Is()], [_]):
            return value(left, row) is None
        case ast.Compare(left, [ast.IsNot()], [_]):
            return value(left, row) is not None
        case ast.Compare(left, hows, rights):
            sides = [value(side, row) for side in (left, *rights)]
            pairs = zip(sides, hows, sides[1:], strict=False)
            return all(
                one is not None and two is not None and OPERATORS[type(how)](one, two)
                for one, how, two in pairs
            )
        case ast.List(items):
            return [value(item, row) for item in items]
        case ast.Name(name):
            found = row[name]
            return found if found is None or isinstance(found, str) else float(found)
        case ast.Constant(constant):
            return constant
    raise AssertionError(ast.dump(node))


def holds(text: str, row: Mapping[str, Any]) -> bool:
    return bool(value(ast.parse(text.strip(), mode="eval"), row))


class Oracle:
    """Membership of the users of one partition."""

    def __init__(self, rules: Mapping[str, tuple[str, str | None]]) -> None:
        """By segment: what lets enter, and leave."""
        self.rules = dict(rules)
        self.since: dict[tuple[str, str], int] = {}
        self.moves: list[tuple[int, str, str, int, bool, bool]] = []
        """At, user, segment, since when, whether it enters, whether the rules' change did it."""

    def look(self, at: int, profiles: Iterable[Mapping[str, Any]]) -> None:
        for row in profiles:
            for segment in self.rules:
                self._look(at, row, segment, changed=False)

    def change(
        self,
        at: int,
        everybody: Iterable[Mapping[str, Any]],
        rules: Mapping[str, tuple[str, str | None]],
    ) -> None:
        old, self.rules = self.rules, dict(rules)
        for row in everybody:
            user = row["user_key"]
            for segment in old.keys() - rules.keys():
                if (user, segment) in self.since:
                    since = self.since.pop((user, segment))
                    self.moves.append((at, user, segment, since, False, True))
            for segment in rules:
                if old.get(segment) != rules[segment]:
                    self._look(at, row, segment, changed=True)

    def _look(self, at: int, row: Mapping[str, Any], segment: str, *, changed: bool) -> None:
        user = row["user_key"]
        enter, leave = self.rules[segment]
        enters = holds(enter, row)
        leaves = holds(leave, row) if leave else not enters
        if (user, segment) in self.since:
            if leaves:
                since = self.since.pop((user, segment))
                self.moves.append((at, user, segment, since, False, changed))
        elif enters and not leaves:
            self.since[user, segment] = at
            self.moves.append((at, user, segment, at, True, changed))
