"""Which parts of a growing table become one: the last few, once they are of a size.

    sizes   40960, 900, 70, 60, 80      fan 3: the last three become one of 210

So a row is copied about once for each `fan`-fold that the table grows by, and there are few parts
to look into: a small fan suits what is searched often, a great one what is merely kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from itertools import takewhile
from typing import TypeVar

Part = TypeVar("Part", bound=Sized)


def appended(
    parts: Sequence[Part], added: Part, together: Callable[[Sequence[Part]], Part], fan: int
) -> tuple[Part, ...]:
    """With this part at the end."""
    found = [*parts, added]
    while (alike := _alike(found)) >= fan:
        found[-alike:] = [together(found[-alike:])]
    return tuple(found)


def _alike(parts: Sequence[Sized]) -> int:
    """How many at the end are at most twice as long as the last."""
    most = 2 * len(parts[-1])
    return sum(1 for _ in takewhile(lambda part: len(part) <= most, reversed(parts)))
