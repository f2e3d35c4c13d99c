"""The smallest thing that is compared: one metric in one window for one set of dimensions.

Upstream: the recomputation gives expected cells, the readers of topic, Postgres and Redis give
found ones. Downstream: `compare`. Invariant: `dimensions` is always the text made by
`text_of`, whatever spacing, key order or escapes a store uses.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

WINDOW_MS = {"1m": 60_000, "1h": 3_600_000, "1d": 86_400_000}


class CellKey(NamedTuple):
    """What a cell is known by in every target."""

    metric: str
    window_size: str
    window_start: int
    version: str
    dimensions: str

    def __str__(self) -> str:
        return "|".join(map(str, self))

    @property
    def window_end(self) -> int:
        """The first millisecond that is no longer in the window."""
        return self.window_start + WINDOW_MS[self.window_size]


class Name(NamedTuple):
    """What a cell is known by in Redis, whose keys have no version."""

    metric: str
    window_size: str
    window_start: int
    dimensions: str

    @property
    def window_end(self) -> int:
        """The first millisecond that is no longer in the window."""
        return self.window_start + WINDOW_MS[self.window_size]


class Bound(Enum):
    """How near a found value has to be."""

    EXACT = "exact"
    USERS = "users"  # distinct users of an hour or a day
    QUANTILE = "quantile"


@dataclass(frozen=True, slots=True)
class Cell:
    """What a target says of a metric."""

    value: float
    numerator: float
    denominator: float
    users: int | None
    is_final: bool
    bound: Bound = Bound.EXACT

    def __str__(self) -> str:
        users = "" if self.users is None else f", {self.users} users"
        final = "final" if self.is_final else "open"
        return f"{self.value!r} = {self.numerator!r}/{self.denominator!r}{users}, {final}"


def text_of(dimensions: Mapping[str, str | None]) -> str:
    """One text for one set of dimensions."""
    return json.dumps(dimensions, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def canonical(text: str) -> str:
    """The same for a text that somebody else wrote."""
    return text_of(json.loads(text))
