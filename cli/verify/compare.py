"""Sets what a target says beside what the raw topic says, key by key.

Upstream: expected and found cells, dead letters and late events. Downstream: the report.
Invariants: every key of either side is looked at once; counts and sums are equal or different,
only sketches have a bound; a row that should not exist is a difference like a missing one.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import isclose
from operator import eq
from typing import Any

from streamgauge.cli.verify.cells import Bound, Cell, CellKey, Name
from streamgauge.cli.verify.report import Comparison, Difference

# Both sides divide the same two integers; anything beyond the last bits of a double is wrong.
_SAME = 1e-14
# The sketch's own relative accuracy, and the resolution of a scaled real number.
_QUANTILE, _QUANTILE_FLOOR = 0.01 * (1 + 1e-9), 1e-6
# The HLL promises 2 % at the 99th percentile: twice that leaves one in some millions outside.
_USERS, _USERS_EXACT_TO = 0.04, 500

NOTHING = "nothing"

Keep = Callable[[CellKey], bool]


def cells(
    target: str, expected: Mapping[CellKey, Cell], found: Mapping[CellKey, Cell]
) -> Comparison:
    """Every cell of a target that holds value, parts, users and finality."""
    differences = []
    for key, cell in expected.items():
        other = found.get(key)
        if other is None or not _agree(cell, other, key):
            differences.append(_difference(target, key, cell, other))
    differences += [
        _difference(target, key, None, cell) for key, cell in found.items() if key not in expected
    ]
    return Comparison(target=target, keys=len(expected), differences=differences)


def values(
    target: str,
    expected: Mapping[CellKey, Cell],
    found: Mapping[Name, float],
    expired: Keep,
) -> Comparison:
    """Every cell of a target that holds values alone and forgets: Redis.

    Its keys carry no version. A missing value is excused when `expired` says that its time has
    passed; a wrong one never is.
    """
    differences, excused, named = [], 0, set()
    for key, cell in expected.items():
        name = Name(key.metric, key.window_size, key.window_start, key.dimensions)
        named.add(name)
        value = found.get(name)
        if value is None and expired(key):
            excused += 1
        elif value is None or not near(cell.bound, cell.value, value):
            differences.append(_difference(target, key, cell.value, value))
    for name, value in found.items():
        if name not in named:
            differences.append(_difference(target, "|".join(map(str, name)), None, value))
    return Comparison(target=target, keys=len(named), differences=differences, excused=excused)


def records(
    target: str,
    expected: Mapping[tuple[int, int], str],
    found: Mapping[tuple[int, int], str],
    twice: int = 0,
) -> Comparison:
    """Dead letters and late events: by partition and offset, with what was said of each.

    `twice` is how many rows repeat another one: exactly once means none.
    """
    differences = [
        _difference(target, "/".join(map(str, at)), expected.get(at), found.get(at))
        for at in sorted(expected.keys() | found.keys())
        if expected.get(at) != found.get(at)
    ]
    if twice:
        differences.append(_difference(target, "repeated rows", 0, twice))
    return Comparison(target=target, keys=len(expected), differences=differences)


def rows(
    target: str,
    expected: Mapping[Any, Any],
    found: Mapping[Any, Any],
    same: Callable[[Any, Any], bool] = eq,
) -> Comparison:
    """Rows by key, a text or a tuple, with all that was said in each."""
    differences = [
        Difference(
            target=target,
            key=key if isinstance(key, str) else "|".join(map(str, key)),
            expected=str(expected.get(key, NOTHING)),
            found=str(found.get(key, NOTHING)),
        )
        for key in expected.keys() | found.keys()
        if key not in expected or key not in found or not same(expected[key], found[key])
    ]
    differences.sort(key=lambda each: each.key)
    return Comparison(target=target, keys=len(expected), differences=differences)


def without_missing(comparison: Comparison) -> Comparison:
    """The same with every missing row excused: the target has forgotten some, by retention."""
    left = [each for each in comparison.differences if each.found != NOTHING]
    missing = len(comparison.differences) - len(left)
    return replace(comparison, differences=left, excused=comparison.excused + missing)


def _agree(expected: Cell, found: Cell, key: CellKey) -> bool:
    return (
        expected.is_final == found.is_final
        and near(expected.bound, expected.value, found.value)
        and near(expected.bound, expected.numerator, found.numerator)
        and isclose(expected.denominator, found.denominator, rel_tol=_SAME)
        and _users_agree(expected.users, found.users, exact=key.window_size == "1m")
    )


def near(bound: Bound, expected: float, found: float) -> bool:
    """Whether a value is what it has to be."""
    if bound is Bound.QUANTILE:
        return abs(found - expected) <= _QUANTILE * abs(expected) + _QUANTILE_FLOOR
    if bound is Bound.USERS and expected > _USERS_EXACT_TO:
        return abs(found - expected) <= _USERS * expected
    return isclose(expected, found, rel_tol=_SAME)


def _users_agree(expected: int | None, found: int | None, *, exact: bool) -> bool:
    if expected is None or found is None:
        return expected == found
    return near(Bound.EXACT if exact else Bound.USERS, expected, found)


def _difference(target: str, key: object, expected: object, found: object) -> Difference:
    return Difference(
        target=target,
        key=str(key),
        expected=NOTHING if expected is None else str(expected),
        found=NOTHING if found is None else str(found),
    )
