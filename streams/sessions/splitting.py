"""Where one session ends and the next begins.

    |--- at most 30 min ---|        more than 30 min         |
    a          b           c  ........................  d
    `-------- one ---------'                            `-- the next --

A user's events, sorted by time and id: one that comes more than 30 minutes after the one before it
begins a session, and so does the first one 24 hours or more after its session's start. Exactly 30
minutes still belong, exactly 24 hours do not.

Upstream: `spans.py`. Invariant: nothing but the times decides.
"""

from __future__ import annotations

import numpy as np

from streamgauge.streams.metrics.keys import firsts

Array = np.ndarray

GAP_MS = 30 * 60_000
CAP_MS = 24 * 3_600_000


def begins(key: Array, start: Array, end: Array) -> Array:
    """Whether each span begins a session; they are sorted by key and time."""
    is_first = firsts(key)
    is_first[1:] |= start[1:] - end[:-1] > GAP_MS
    opened = start[np.maximum.accumulate(np.where(is_first, np.arange(len(key)), 0))]
    rest = np.arange(len(key))
    while True:  # once a day of the longest run of events
        rest = rest[start[rest] - opened[rest] >= CAP_MS]
        if not len(rest):
            return is_first
        heads = np.diff(rest, prepend=-2) != 1
        is_first[rest[heads]] = True
        opened[rest] = start[rest[heads]][heads.cumsum() - 1]


def closed(start: Array, end: Array, floor: Array) -> Array:
    """Whether these are over, where no event before `floor` can come any more."""
    return (end + GAP_MS < floor) | (start + CAP_MS <= floor)
