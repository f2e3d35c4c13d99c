"""The fields that metrics can read: those of the event types, and a few derived from them.

Upstream: `events.EVENT_TYPES`. Downstream: definitions are checked against these kinds; the
worker computes the derived fields in polars and `verify` in SQL, each from `meaning`.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from streamgauge.schemas.events import Event
from streamgauge.schemas.records import TIME

Kind = Literal["string", "int", "float", "bool", "time"]
KINDS: dict[Any, Kind] = {bool: "bool", int: "int", float: "float", str: "string"}


@dataclass(frozen=True, kw_only=True)
class Derived:
    """A field that is computed from others; types that have all `needs` have it."""

    name: str
    kind: Kind
    needs: Mapping[str, tuple[Kind, ...]]
    meaning: str


DERIVED: dict[str, Derived] = {
    derived.name: derived
    for derived in (
        Derived(
            name="page",
            kind="string",
            needs={"page_url": ("string",)},
            meaning="page_url up to, and without, its first '?' or '#'; null when it is null",
        ),
        Derived(
            name="content_age_days",
            kind="int",
            needs={"published_at": ("time",)},
            meaning="floor((timestamp - published_at) / 86400000); null when published_at is",
        ),
        Derived(
            name="is_error",
            kind="bool",
            needs={"status": ("int",), "error_type": ("string",)},
            meaning="status >= 500, or error_type is not null; false when both are null",
        ),
        Derived(
            name="watched_hours",
            kind="float",
            needs={
                "action": ("string",),
                "position_ms": ("int", "float"),
                "duration_ms": ("int", "float"),
            },
            meaning=(
                "m / 3600000.0 where m is, for action 'complete', position_ms or else"
                " duration_ms, for 'skip' position_ms; null otherwise: each play counts once,"
                " by where it ended"
            ),
        ),
    )
}


@cache
def field_kind(cls: type[Event], field: str) -> Kind | None:
    """What an event class's field, or a derived one, holds; None: no such field, or no scalar."""
    if derived := DERIVED.get(field):
        has_needs = all(field_kind(cls, need) in kinds for need, kinds in derived.needs.items())
        return derived.kind if has_needs else None
    info = cls.model_fields.get(field)
    return _annotation_kind(info.annotation, tuple(info.metadata)) if info else None


def _annotation_kind(annotation: Any, metadata: tuple[Any, ...] = ()) -> Kind | None:
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *more = get_args(annotation)
        return _annotation_kind(inner, (*more, *metadata))
    if origin in (Union, types.UnionType):
        options = [option for option in get_args(annotation) if option is not type(None)]
        return _annotation_kind(options[0], metadata) if len(options) == 1 else None
    if TIME in metadata:
        return "time"
    if origin is Literal:
        return "string" if all(isinstance(v, str) for v in get_args(annotation)) else None
    return KINDS.get(annotation)
