"""Which variant of an experiment a user gets: a hash of names, so everybody finds the same one.

Upstream: a definition (`schemas.experiments`) or its JSON. Downstream: the SDK, the collector, the
simulator; the browser's tracker computes the same in JavaScript, and tests hold both to the
vectors of `tests/data/assignment.json`.

    bucket(purpose) = (first 53 bits of SHA-256("<experiment>/<purpose>/<user>")) / 2^53
    in the experiment   bucket("allocation") < allocation
    variant             the first whose weights, added up in the listed order, exceed
                        bucket("variant") * (all weights together)

An experiment may be for certain segments only: who is in none of them gets no variant, unless they
were exposed before. Which segments a user is in, and to what they were exposed, is the caller's to
know (`targeting.py` looks it up).

Invariants: nothing but doubles and SHA-256, so every language agrees to the last bit; the two
buckets are independent, so a raised allocation takes users in and never moves one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

ASSIGNED = "assigned"
EXPOSED_BEFORE = "exposed_before"
OUTSIDE_SEGMENTS = "outside_segments"
OUTSIDE_ALLOCATION = "outside_allocation"
NO_WEIGHT = "no_weight"


class Decision(NamedTuple):
    """A user's variant, or None; and why."""

    variant: str | None
    reason: str


def bucket(experiment: str, purpose: str, user: str) -> float:
    """A number in [0, 1), evenly spread over users."""
    digest = hashlib.sha256(f"{experiment}/{purpose}/{user}".encode()).digest()
    return float(int.from_bytes(digest[:8], "big") >> 11) / 2**53


def is_allocated(experiment: str, user: str, allocation: float) -> bool:
    """Whether the user takes part at all."""
    return bucket(experiment, "allocation", user) < allocation


def variant(experiment: str, user: str, weights: Sequence[tuple[str, float]]) -> str | None:
    """The variant of a user who takes part; None if no weight is above 0."""
    total = 0.0
    for _, weight in weights:
        total += weight
    share = bucket(experiment, "variant", user) * total
    reached, last = 0.0, None
    for name, weight in weights:
        reached += weight
        if weight > 0:
            last = name
            if share < reached:
                return name
    return last


def decide(
    experiment: str,
    user: str,
    weights: Iterable[tuple[str, float]],
    allocation: float = 1.0,
    *,
    segments: Collection[str] = (),
    user_segments: Collection[str] = (),
    exposed: bool = False,
) -> Decision:
    """The user's variant, and why.

    `segments` are those of the experiment (none: it is for everybody), `user_segments` those that
    the user is in. Who was `exposed` stays in, whatever segments and allocation say by now.
    """
    reason = EXPOSED_BEFORE
    if not exposed:
        if segments and not any(segment in user_segments for segment in segments):
            return Decision(None, OUTSIDE_SEGMENTS)
        if not is_allocated(experiment, user, allocation):
            return Decision(None, OUTSIDE_ALLOCATION)
        reason = ASSIGNED
    found = variant(experiment, user, tuple(weights))
    return Decision(found, reason if found is not None else NO_WEIGHT)


def assign(
    experiment: str,
    user: str,
    weights: Iterable[tuple[str, float]],
    allocation: float = 1.0,
    *,
    segments: Collection[str] = (),
    user_segments: Collection[str] = (),
    exposed: bool = False,
) -> str | None:
    """The user's variant, or None for who gets none; see `decide`."""
    return decide(
        experiment,
        user,
        weights,
        allocation,
        segments=segments,
        user_segments=user_segments,
        exposed=exposed,
    ).variant


class Seen:
    """Who was shown what by this process, so that it is told once; the oldest are forgotten."""

    def __init__(self, most: int = 100_000) -> None:
        self._most = most
        self._seen: dict[tuple[str, str], None] = {}

    def has(self, experiment: str, user: str) -> bool:
        """Whether the user was exposed."""
        return (experiment, user) in self._seen

    def add(self, experiment: str, user: str) -> None:
        """The user is exposed."""
        self._seen[experiment, user] = None
        while len(self._seen) > self._most:
            try:
                del self._seen[next(iter(self._seen))]
            except (KeyError, RuntimeError):  # another thread was faster
                return
