"""What is different between two versions of a schema, field by field.

Upstream: `streamgauge schemas diff`. Invariant: a change says what breaks, if it does, in the
words of `compatibility.py`; what that finds and no change explains is a change of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from streamgauge.schemas.compatibility import backward_problems


@dataclass(frozen=True, kw_only=True)
class Change:
    """A field that is not as it was; `before` and `after` are its type and default."""

    field: str
    change: Literal["added", "removed", "changed"]
    before: str | None
    after: str | None
    breaks: str | None
    """Why readers with the new schema could not read what the old one wrote."""


def differences(new: Any, old: Any) -> list[Change]:
    """The changes from `old` to `new`, in the order of the new schema's fields."""
    after, before = dict(_fields(new, "")), dict(_fields(old, ""))
    problems: dict[str, list[str]] = {}
    for problem in backward_problems(new, old):
        where, _, why = problem.partition(": ")
        problems.setdefault(where, []).append(why)
    changes = [
        Change(
            field=name,
            change=_kind(name, before, after),
            before=before.get(name),
            after=after.get(name),
            breaks="; ".join(problems.pop(name, ())) or None,
        )
        for name in dict.fromkeys((*after, *before))
        if after.get(name) != before.get(name)
    ]
    changes += [
        Change(field=name, change="changed", before=None, after=None, breaks="; ".join(why))
        for name, why in problems.items()
    ]
    return changes


def _kind(
    name: str, before: dict[str, str], after: dict[str, str]
) -> Literal["added", "removed", "changed"]:
    if name not in before:
        return "added"
    return "changed" if name in after else "removed"


def _fields(schema: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every field by its path as `compatibility.py` writes it, with its type and default."""
    if isinstance(schema, list):
        for branch in schema:
            yield from _fields(branch, path)
    elif isinstance(schema, dict):
        for field in schema.get("fields", ()):
            name = f"{path}.{field['name']}" if path else field["name"]
            default = f" = {json.dumps(field['default'])}" if "default" in field else ""
            yield name, _type(field["type"]) + default
            yield from _fields(field["type"], name)
        if schema["type"] == "array":
            yield from _fields(schema["items"], f"{path}[]")
        elif schema["type"] == "map":
            yield from _fields(schema["values"], f"{path}{{}}")


def _type(schema: Any) -> str:
    if isinstance(schema, list):
        return " or ".join(_type(branch) for branch in schema)
    if not isinstance(schema, dict):
        return str(schema)
    if "logicalType" in schema:
        return str(schema["logicalType"])
    if schema["type"] in ("array", "map"):
        return f"{schema['type']} of {_type(schema.get('items', schema.get('values')))}"
    if schema["type"] == "enum":
        return "enum of " + ", ".join(schema["symbols"])
    if schema["type"] == "fixed":
        return f"fixed of {schema['size']} bytes"
    return str(schema["type"])
