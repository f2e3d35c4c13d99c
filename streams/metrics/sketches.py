"""Distinct users of hours and days: an HLL sketch for each window, key and source partition.

The sketches are those of `datasketches`, with 2^15 registers: relative standard error 0.57 %, so
the error is within 1.5 % in 99 of 100 cases. A sketch that nobody merged estimates by its history;
merged with itself it is marked as out of order, and from then on estimates from its registers
alone: the same users give the same number in whatever order and portions they came.

Invariants: sketches are kept as bytes and never changed in place; adding a user twice changes
nothing, so reading events again is harmless.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from datasketches import hll_sketch, hll_union, tgt_hll_type

LG_K = 15
KIND = tgt_hll_type.HLL_8

# Places in the serialized form, which datasketches keeps the same in all its languages.
_FLAGS, _OUT_OF_ORDER = 5, 16
_MODE, _HLL_MODE = 7, 2


class Place(NamedTuple):
    """Which users a sketch counts."""

    partition: int
    size: str
    start: int
    version: str
    dimensions: str


@dataclass(frozen=True, kw_only=True)
class Sketch:
    data: bytes
    emitted: bool
    """Its estimate has gone out."""
    saved: bool
    """It is in the changelog as it is."""


Sketches = Mapping[Place, Sketch]


def of_users(users: Iterable[str]) -> hll_sketch:
    sketch = hll_sketch(LG_K, KIND)
    for user in users:
        sketch.update(user)
    return sketch


def with_users(sketches: Sketches, added: Iterable[tuple[Place, hll_sketch]]) -> Sketches:
    """The sketches with more users."""
    changed = dict(sketches)
    for place, sketch in added:
        old = changed.get(place)
        data = _union(hll_sketch.deserialize(old.data), sketch) if old else _union(sketch)
        if data[_MODE] & 3 == _HLL_MODE and not data[_FLAGS] & _OUT_OF_ORDER:
            again = hll_sketch.deserialize(data)
            data = _union(again, again)
        changed[place] = Sketch(data=data, emitted=False, saved=False)
    return changed


def _union(*sketches: hll_sketch) -> bytes:
    union = hll_union(LG_K)
    for sketch in sketches:
        union.update(sketch)
    return union.get_result(KIND).serialize_compact()


def estimate(sketch: Sketch) -> int:
    """How many users, as a function of their set."""
    return round(hll_sketch.deserialize(sketch.data).get_estimate())


def marked(
    sketches: Sketches,
    places: Iterable[Place],
    *,
    emitted: bool | None = None,
    saved: bool | None = None,
) -> Sketches:
    """The sketches with these flags set."""
    changed = dict(sketches)
    for place in places:
        old = changed[place]
        changed[place] = replace(
            old,
            emitted=old.emitted if emitted is None else emitted,
            saved=old.saved if saved is None else saved,
        )
    return changed
