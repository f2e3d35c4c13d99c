"""Who is in which segment, once more: one user and one rule at a time, in plain Python.

Upstream: the fold of accepted events, which says when whom to look at, and the profile fields then.
Downstream: `compare`, beside the topic `user-segments` and the tables. Invariants: it shares the
reading of rules with the worker, and nothing else; the meaning of a condition is written down here
a second time, from `schemas/expressions.py`.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from streamgauge.schemas.errors import SchemaError
from streamgauge.schemas.expressions import (
    Absence,
    Among,
    Arithmetic,
    Comparison,
    Constant,
    Expression,
    Field,
    Junction,
    Not,
    Value,
)
from streamgauge.schemas.records import Control
from streamgauge.schemas.segments import Rules, Segment, rules_of

Fields = Mapping[str, Any]


class StayKey(NamedTuple):
    """What a stay is known by."""

    user_id: str
    segment: str
    entered_at: int

    def __str__(self) -> str:
        return "|".join(map(str, self))


@dataclass(kw_only=True)
class Stay:
    """What is said of it."""

    left_at: int | None = None
    reason_in: str | None = None
    reason_out: str | None = None
    rule_version: str

    def __str__(self) -> str:
        return f"{self.reason_in}..{self.reason_out} until {self.left_at} by {self.rule_version}"


@dataclass(kw_only=True)
class Membership:
    """Who was in which segment, of all source partitions."""

    start: Rules
    rules: dict[int, Rules] = field(default_factory=dict)
    stays: dict[StayKey, Stay] = field(default_factory=dict)
    """In the order of entering."""
    counts: dict[tuple[str, int, int], int] = field(default_factory=dict)
    """By segment, hour and source partition."""
    _open: dict[tuple[int, str, str], StayKey] = field(default_factory=dict)

    def look(self, partition: int, user: str, at: int, fields: Fields) -> None:
        """By the rules in force."""
        for segment in self._in_force(partition).segments:
            self._look(partition, user, segment, at, fields, None)

    def hour(self, partition: int, at: int) -> None:
        """After everybody was looked at."""
        members = Counter(name for place, _, name in self._open if place == partition)
        for segment in self._in_force(partition).segments:
            self.counts[segment.name, at, partition] = members[segment.name]

    def change(
        self, partition: int, control: Control, at: int, everybody: Iterable[tuple[str, Fields]]
    ) -> None:
        """A control's rules; wrong ones change nothing."""
        old = self._in_force(partition)
        try:
            new = rules_of(control)
        except SchemaError:
            return
        versions = {segment.name: segment.version for segment in old.segments}
        names = {segment.name for segment in new.segments}
        self.rules[partition] = new
        for user, fields in everybody:
            for segment in old.segments:
                if segment.name not in names:
                    self._leave(partition, user, segment, at, _reason((), {}, new.label))
            for segment in new.segments:
                if versions.get(segment.name) != segment.version:
                    self._look(partition, user, segment, at, fields, new.label)

    def last(self) -> dict[tuple[str, str], tuple[StayKey, Stay]]:
        """The last stay of each user and segment, as the compacted topic has it."""
        return {(key.user_id, key.segment): (key, stay) for key, stay in self.stays.items()}

    def open(self) -> Iterable[StayKey]:
        """The stays that go on."""
        return self._open.values()

    def _in_force(self, partition: int) -> Rules:
        return self.rules.setdefault(partition, self.start)

    def _look(
        self,
        partition: int,
        user: str,
        segment: Segment,
        at: int,
        fields: Fields,
        change: str | None,
    ) -> None:
        enters = holds(segment.enter, fields)
        leaves = holds(segment.leave, fields) if segment.rule.leave else not enters
        is_in = (partition, user, segment.name) in self._open
        if is_in and leaves:
            self._leave(partition, user, segment, at, _reason(segment.fields, fields, change))
        elif not is_in and enters and not leaves:
            reason = _reason(segment.fields, fields, change)
            key = StayKey(user, segment.name, at)
            self._open[partition, user, segment.name] = key
            self.stays.pop(key, None)
            self.stays[key] = Stay(reason_in=reason, rule_version=segment.version)

    def _leave(self, partition: int, user: str, segment: Segment, at: int, reason: str) -> None:
        key = self._open.pop((partition, user, segment.name), None)
        if key is not None:
            stay = self.stays[key]
            stay.left_at, stay.reason_out, stay.rule_version = at, reason, segment.version


def _reason(names: Iterable[str], fields: Fields, change: str | None) -> str:
    told: dict[str, Any] = {"change": change} if change else {}
    for name in names:
        value = fields[name]
        told[name] = round(value, 6) if isinstance(value, float) else value
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))


def holds(expression: Expression, fields: Fields) -> bool:
    """Whether a condition holds for one user."""
    match expression:
        case Comparison(operator, left, right):
            one, two = _value(left, fields), _value(right, fields)
            return one is not None and two is not None and _COMPARE[operator](one, two)
        case Junction("and", conditions):
            return all(holds(condition, fields) for condition in conditions)
        case Junction(_, conditions):
            return any(holds(condition, fields) for condition in conditions)
        case Not(condition):
            return not holds(condition, fields)
        case Field(name):
            return fields[name] is True
        case Absence(of, negated):
            return (fields[of.name] is None) is not negated
        case Among(value, options, negated):
            found = _value(value, fields)
            return found is not None and (found in options) is not negated


def _value(value: Value, fields: Fields) -> Any:
    match value:
        case Constant(constant):
            return constant
        case Field(name):
            found = fields[name]
            return float(found) if isinstance(found, int) else found
        case Arithmetic(operator, left, right):
            one, two = _value(left, fields), _value(right, fields)
            if one is None or two is None or (operator == "/" and two == 0):
                return None
            return _COMPUTE[operator](one, two)


_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "<": lambda one, two: one < two,
    "<=": lambda one, two: one <= two,
    ">": lambda one, two: one > two,
    ">=": lambda one, two: one >= two,
    "==": lambda one, two: one == two,
    "!=": lambda one, two: one != two,
}
_COMPUTE: Mapping[str, Callable[[float, float], float]] = {
    "+": lambda one, two: one + two,
    "-": lambda one, two: one - two,
    "*": lambda one, two: one * two,
    "/": lambda one, two: one / two,
}
