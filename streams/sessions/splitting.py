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

from streamgauge.streams.metrics.fate import NONE
from streamgauge.streams.metrics.keys import firsts

Array = np.ndarray

GAP_MS = 30 * 60_000
CAP_MS = 24 * 3_600_000


def begins(key: Array, start: Array, end: Array) -> Array:
    """Whether each span begins a session; they are sorted by key and start."""
    is_first = firsts(key)
    is_first[1:] |= start[1:] - _reached(key, start, end) > GAP_MS
    opened = start[np.maximum.accumulate(np.where(is_first, np.arange(len(key)), 0))]
    rest = np.arange(len(key))
    while True:  # once a day of the longest run of events
        rest = rest[start[rest] - opened[rest] >= CAP_MS]
        if not len(rest):
            return is_first
        heads = np.diff(rest, prepend=-2) != 1
        is_first[rest[heads]] = True
        opened[rest] = start[rest[heads]][heads.cumsum() - 1]


def _reached(key: Array, start: Array, end: Array) -> Array:
    """Of each span but the first: how far those of its key before it reach.

    Spans of several events do not overlap, so the last of them reaches furthest of them all.
    """
    wide = np.maximum.accumulate(np.where(end > start, np.arange(len(key)), -1))[:-1]
    known = (wide >= 0) & (key[wide] == key[1:])
    return np.maximum(end[:-1], np.where(known, end[wide], NONE))


def cuts(key: Array, start: Array, is_first: Array) -> Array:
    """Whether a session of the span's key can be cut between the span and the one before it.

    A session that a late event lengthens is cut 24 h after its start, and that may be within the
    one that follows now. So spans are never joined over such a place.
    """
    begun = firsts(key)
    first = start[np.maximum.accumulate(np.where(begun, np.arange(len(key)), 0))]
    far = start - first >= CAP_MS
    if not far.any():
        return np.zeros(len(key), bool)
    heads = is_first.nonzero()[0]
    keys = np.concatenate([key[heads], key])
    times = np.concatenate([start[heads] + CAP_MS, start])
    is_span = np.arange(len(keys)) >= len(heads)
    order = np.lexsort((is_span, times, keys))
    passed = (~is_span[order]).cumsum()
    count = np.empty(len(keys), np.int64)
    count[order] = passed
    found = np.diff(count[len(heads) :], prepend=0) != 0
    return found & ~begun


def closed(start: Array, end: Array, floor: Array) -> Array:
    """Whether these are over, where no event before `floor` can come any more."""
    return (end + GAP_MS < floor) | (start + CAP_MS <= floor)


def closes(start: Array, end: Array) -> Array:
    """The floor, in whole minutes, at which these are over."""
    return np.minimum(
        (end + GAP_MS) // 60_000 * 60_000 + 60_000, -(-(start + CAP_MS) // 60_000) * 60_000
    )
