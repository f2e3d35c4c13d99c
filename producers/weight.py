"""About how many bytes a caller's fields keep, and a copy of what the caller may still change.

Upstream: `client.py`, in the caller's thread, so it is kept short: text counts its characters,
everything else a few bytes.
"""

from __future__ import annotations

from typing import Any

EVENT = 400
"""An event without fields, its id and the tuple around it."""

FIELD = 60
DEPTH = 20
"""Deeper than this nothing is copied; such an event will be found invalid."""

_SCALARS = frozenset({int, float, bool, type(None)})


def weigh(fields: dict[str, Any]) -> int:
    """The fields' weight; lists, mappings and sets in them are copied in place."""
    size = EVENT
    for name, value in fields.items():
        kind = value.__class__
        if kind is str:
            size += FIELD + len(value)
        elif kind in _SCALARS:
            size += FIELD
        else:
            fields[name], weight = _kept(value, DEPTH)
            size += FIELD + weight
    return size


def _kept(value: Any, depth: int) -> tuple[Any, int]:
    if depth and isinstance(value, dict):
        items = [(key, *_kept(item, depth - 1)) for key, item in value.items()]
        kept = {key: item for key, item, _ in items}
        return kept, sum(FIELD + len(str(key)) + weight for key, _, weight in items)
    if depth and isinstance(value, list | tuple | set | frozenset):
        parts = [_kept(item, depth - 1) for item in value]
        return [item for item, _ in parts], sum(FIELD + weight for _, weight in parts)
    return value, FIELD + (len(value) if isinstance(value, str | bytes | bytearray) else 0)
