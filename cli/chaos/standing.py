"""Where groups and ends of topics stand, and for how long: what hangs, what goes back.

Upstream: `watch`, with what the broker says. Downstream: recoveries and findings for the report.
Pure: time is an argument. Invariants that it finds broken: a partition with lag does not move for
`HANG` seconds (I6); a worker's committed offset goes back (I2: a zombie's commit came after the
new owner's); a transaction holds the end of an output for longer than its timeout and the broker's
clean-up interval (I6). Time in which the broker is away is nobody's hang.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import TypeAlias

HANG = 60.0
OPEN_LIMIT = 30.0
"""Seconds: transaction timeout (10), the broker's look for expired ones (10), a slow machine."""

Place: TypeAlias = tuple[str, str, int]
"""Group (as `lag.GROUPS` names it), topic, partition."""
End: TypeAlias = tuple[str, int]
"""Topic, partition."""


@dataclass
class Mark:
    """An offset, and when it was first seen there with something to do."""

    offset: int
    since: float
    lag: int


@dataclass
class Recovery:
    """What must move before a fault has been got over; `seconds` once it has."""

    began: float
    """In time with a broker, as `seconds` is."""
    left: dict[Place, int]
    seconds: float | None = None


@dataclass
class Standing:
    """What is known so far; `broken` in words, one of the design's invariants before each."""

    broken: list[str] = field(default_factory=list)
    longest_stall: float = 0.0
    longest_open: float = 0.0
    _commits: dict[Place, Mark] = field(default_factory=dict)
    _open: dict[End, Mark] = field(default_factory=dict)
    _recoveries: list[Recovery] = field(default_factory=list)
    _told: set[Place | End] = field(default_factory=set)
    _away_since: float | None = None
    _away_seconds: float = 0.0
    _back_since: float = 0.0

    def lag(self, group: str) -> int:
        """Records that a group has before it."""
        return sum(mark.lag for (name, *_), mark in self._commits.items() if name == group)

    def broker(self, *, away: bool, now: float) -> None:
        """A fault takes the broker away, or gives it back."""
        if self._away_since is not None:
            self._away_seconds += now - self._away_since
        self._away_since, self._back_since = now if away else None, now

    def unanswered(self, now: float) -> None:
        """The broker did not answer: nothing is known of this time."""
        self._back_since = now

    def recovery(self, groups: Collection[str], now: float) -> Recovery:
        """From now on these groups' commits must move, wherever there is lag."""
        left = {place: mark.offset for place, mark in self._commits.items() if place[0] in groups}
        recovery = Recovery(self._with_broker(now), left)
        self._recoveries.append(recovery)
        return recovery

    def committed(self, place: Place, offset: int, lag: int, now: float) -> None:
        """A group stands here."""
        known = self._commits.get(place)
        if known is not None and offset < known.offset and place[0] == "worker":
            self.broken.append(f"I2: {_named(place)} went back from {known.offset} to {offset}")
        if known is not None and offset == known.offset and known.lag:
            known.lag = lag
        else:
            self._commits[place] = Mark(offset, now, lag)
        for recovery in self._recoveries:
            # Moved, or with nothing to do: both are where they should be.
            if place in recovery.left and (offset != recovery.left[place] or not lag):
                del recovery.left[place]
            if not recovery.left:
                recovery.seconds = self._with_broker(now) - recovery.began
        self._recoveries = [one for one in self._recoveries if one.seconds is None]

    def ends(self, place: End, stable: int, end: int, now: float) -> None:
        """A partition ends here; readers of committed rows may go up to `stable`."""
        known = self._open.get(place)
        if stable >= end:
            self._open.pop(place, None)
        elif known is None or known.offset != stable:
            self._open[place] = Mark(stable, now, end - stable)

    def judge(self, now: float) -> None:
        """How long everything that stands has stood."""
        if self._away_since is not None:
            return
        for place, mark in self._commits.items():
            stood = now - max(mark.since, self._back_since) if mark.lag else 0.0
            self.longest_stall = max(self.longest_stall, stood)
            if stood > HANG:
                self._hangs(place, f"{_named(place)} stands at {mark.offset}, {mark.lag} behind")
        for at, mark in self._open.items():
            stood = now - max(mark.since, self._back_since)
            self.longest_open = max(self.longest_open, stood)
            if stood > OPEN_LIMIT:
                self._hangs(at, f"{at[0]}/{at[1]} is held at {mark.offset} by a transaction")

    def _with_broker(self, now: float) -> float:
        """The time without that in which it was away."""
        gone = 0.0 if self._away_since is None else now - self._away_since
        return now - gone - self._away_seconds

    def _hangs(self, place: Place | End, what: str) -> None:
        if place not in self._told:
            self._told.add(place)
            self.broken.append(f"I6: {what}")


def _named(place: Place) -> str:
    group, topic, partition = place
    return f"{group}'s commit of {topic}/{partition}"
