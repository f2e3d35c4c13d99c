"""A detector's state as JSON values, and back.

Every part of it is a dataclass of numbers, strings, lists and mappings, so nothing is said twice:
the fields are the format.

Invariants: a detector that was restored says from then on what the saved one would have said; a
field that came `LATER` has its default in what was saved before.
"""

from __future__ import annotations

from dataclasses import asdict, fields, is_dataclass
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")

LATER = "later"
"""Metadata of fields that were not saved from the first."""


def saved(state: Any) -> dict[str, Any]:
    """A dataclass as JSON values."""
    return asdict(state)


def restored(kind: type[T], content: dict[str, Any]) -> T:
    """The dataclass that `saved` was given."""
    hints = get_type_hints(kind)
    every = fields(kind)  # type: ignore[arg-type]
    known = (one.name for one in every if one.name in content or not one.metadata.get(LATER))
    given = {name: _value(hints[name], content[name]) for name in known}
    return kind(**given)


def _value(hint: Any, value: Any) -> Any:
    if value is None:
        return None
    if get_origin(hint) is UnionType:
        (hint,) = (one for one in get_args(hint) if one is not type(None))
    if is_dataclass(hint):
        return restored(hint, value)  # type: ignore[arg-type]
    if get_origin(hint) is list and is_dataclass(get_args(hint)[0]):
        return [restored(get_args(hint)[0], one) for one in value]
    return value
