"""When sessions begin, and whose: the rhythm of the day and the habit of coming back.

Upstream: a generator of random numbers. Downstream: `world.py` begins a session at each visit.

Invariants: of the users of a day, 65 % come back within the next seven days (R2), however
many users there are; users keep to their part of the day. Memory: four bytes a user. Where
there are more sessions than the users' habits give, they come more often on their days.
"""

from __future__ import annotations

from array import array
from collections import deque
from itertools import accumulate
from random import Random

DAY_MS = 86_400_000
HOUR_MS = 3_600_000

# Sessions by hour of the day (UTC), mean 1.
HOURS = (
    0.45, 0.32, 0.25, 0.22, 0.25, 0.38, 0.60, 0.85, 1.05, 1.15, 1.18, 1.20,
    1.25, 1.20, 1.15, 1.12, 1.15, 1.25, 1.45, 1.65, 1.75, 1.65, 1.40, 1.08,
)  # fmt: skip

# The days between a user's visits: 65 % of the weight on one to seven.
NEAR = (0.30, 0.14, 0.08, 0.05, 0.03, 0.02, 0.03)
FAR = tuple(0.35 / 16 for _ in range(8, 24))
GAPS = range(1, 1 + len(NEAR) + len(FAR))
GAP_WEIGHTS = tuple(accumulate(NEAR + FAR))
MEAN_GAP_DAYS = sum(gap * weight for gap, weight in zip(GAPS, NEAR + FAR, strict=True))
SESSIONS_PER_DAY = 1.3
"""Sessions of a user on a day with any."""

REST_MS = 75 * 60_000
"""From a session's begin to the same user's next one, if others are there to come."""

PARTS_OF_DAY = ((6, 12), (11, 18), (17, 24), (18, 24))
"""Hours that users prefer, by their number modulo four."""


def rhythm(hour: int) -> float:
    """How many sessions begin in this hour, compared with the day's mean."""
    return HOURS[hour % 24]


def weight_between(start_ms: int, end_ms: int) -> float:
    """The hours' weights from start to end, in days: 1 for a whole day."""
    total = 0.0
    while start_ms < end_ms:
        hour = start_ms // HOUR_MS
        until = min((hour + 1) * HOUR_MS, end_ms)
        total += (until - start_ms) * rhythm(hour) / DAY_MS
        start_ms = until
    return total


class Visits:
    """Whose session begins next; days roll over as the caller's time passes."""

    def __init__(self, random: Random, users: int, start_ms: int) -> None:
        self._random = random
        self._users = users
        self._day = start_ms // DAY_MS
        self._calendar: dict[int, array[int]] = {}
        # The chance to be r days before the next visit falls with r as gaps reach beyond it.
        waiting = tuple(accumulate(1 - weight for weight in (0.0, *GAP_WEIGHTS[:-1])))
        first = 0
        for wait, share in enumerate(waiting):
            after = round(users * share / waiting[-1])
            self._calendar[self._day + wait] = array("I", range(first, after))
            first = after
        self._begin_day()

    def next(self, now_ms: int) -> int:
        """The number of the user whose session begins now."""
        while self._day < now_ms // DAY_MS:
            self._day += 1
            self._begin_day()
        hour = now_ms // HOUR_MS % 24
        random = self._random
        again = self._seen and self._seen[0][0] <= now_ms
        if again and random.random() < 1 - 1 / SESSIONS_PER_DAY:
            user = self._seen.popleft()[1]
        elif self._unseen:
            for _ in range(3):
                begin, end = PARTS_OF_DAY[self._unseen[-1] % 4]
                if begin <= hour < end or random.random() < 0.3:
                    break
                self._unseen.rotate(1)
            user = self._unseen.pop()
        else:
            user = self._seen.popleft()[1] if self._seen else random.randrange(self._users)
        self._seen.append((now_ms + REST_MS, user))
        return user

    def _begin_day(self) -> None:
        today = self._calendar.pop(self._day, array("I"))
        gaps = self._random.choices(GAPS, cum_weights=GAP_WEIGHTS, k=len(today))
        for user, gap in zip(today, gaps, strict=True):
            self._note(self._day + gap, user)
        self._random.shuffle(today)
        self._unseen = deque(today)
        self._seen: deque[tuple[int, int]] = deque()

    def _note(self, day: int, user: int) -> None:
        self._calendar.setdefault(day, array("I")).append(user)
