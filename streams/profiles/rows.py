"""A profile as a row of fixed size, and the sum of two of them.

    mask    …0110 1101     bit i: the day i before last_day; a later last_day shifts it
    before  days that were shifted out, and how many of them in a row right before the mask

Upstream: `digest.py` makes the profile that a batch of events is by itself. Downstream:
`profiles.py` adds it to the one that a user has. Invariants: `added` is commutative and
associative (as long as no event is 64 days late), so neither the order of events nor their
batches matter; counts of hours stop at 65,535.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streamgauge.schemas.profile_records import COUNTS, DECAYED, SUMS

Array = np.ndarray

DAY_MS = 86_400_000
NEVER = -(2**62)
"""A time before all others."""
EPOCH_DAYS = 128
WINDOW = 64

COUNT = {name: index for index, name in enumerate(COUNTS)}
SUM = {name: index for index, name in enumerate(SUMS)}
FADING = {name: index for index, name in enumerate(DECAYED)}

ROW = np.dtype(
    [
        ("slot", np.uint32),
        ("partition", np.int32),
        ("first_seen", np.int64),
        ("last_seen", np.int64),
        ("country", np.uint32),
        ("told", np.int32),
        ("last_day", np.int32),
        ("epoch", np.int32),
        ("mask", np.uint64),
        ("days_before", np.uint32),
        ("run_before", np.uint32),
        ("country_at", np.int64),
        ("sessions_through", np.int64),
        ("hours", np.uint16, 24),
        ("watch_hours", np.uint16, 24),
        ("now", np.int64, len(FADING)),
        ("then", np.int64, len(FADING)),
        ("sums", np.int64, len(SUM)),
        ("counts", np.uint32, len(COUNT)),
    ]
)
"""slot: the user's number in this process; country: a name's code, 0 for none; told: the day as of
which the profile was written last."""


def span(first: str, last: str, size: int = 1) -> slice:
    """Where these fields and those between them are in a row, in so many bytes."""
    _, begin, *_ = ROW.fields[first]  # type: ignore[index]
    kind, end, *_ = ROW.fields[last]  # type: ignore[index]
    return slice(begin // size, (end + kind.itemsize) // size)


_WORD = 8
WIDTH = ROW.itemsize // _WORD
"""Words of a row."""
_HOURS = span("hours", "watch_hours", _WORD)
_HIGH = np.uint64(0x8000_8000_8000_8000)
"""The highest bit of the counts of four hours: where none has it, they add up within a word."""

_BLOCK = 2048
_FULL = np.uint64(2**64 - 1)
_ONE = np.uint64(1)


def empty(count: int) -> Array:
    """Profiles without events: what adds nothing."""
    return np.repeat(_NOTHING, count, axis=0).view(ROW)[:, 0]


def _nothing() -> Array:
    row = np.zeros(1, ROW)
    row["first_seen"] = -NEVER
    for name in ("last_seen", "country_at", "sessions_through"):
        row[name] = NEVER
    for name in ("last_day", "told", "epoch"):
        row[name] = -1
    return words(row)


def raw(rows: Array) -> Array:
    """The bytes of rows: taken as a whole, not field by field."""
    return rows.view(np.uint8).reshape(len(rows), ROW.itemsize)


def words(rows: Array) -> Array:
    """The words (8 bytes) of rows, which lie side by side."""
    return rows.view(np.uint64).reshape(len(rows), WIDTH)


_NOTHING = _nothing()


def copied(rows: Array) -> Array:
    """A copy by the bytes: field by field, as numpy would, takes eight times as long."""
    return raw(rows).copy().view(ROW)[:, 0]


def added(one: Array, two: Array, texts: Sequence[str]) -> Array:
    """The sums, place by place; `texts` of the countries' codes. Slots are those of `one`."""
    rows = np.empty(len(one), ROW)
    for first in range(0, len(rows), _BLOCK):  # as much as the processor's cache takes
        part = slice(first, first + _BLOCK)
        _add(rows[part], one[part], two[part], texts)
    return rows


def _add(rows: Array, one: Array, two: Array, texts: Sequence[str]) -> None:
    both = words(one), words(two)
    np.add(*both, out=words(rows))  # all of it at once; then anew what is no sum
    for name in ("slot", "partition"):
        rows[name] = one[name]
    rows["first_seen"] = np.minimum(one["first_seen"], two["first_seen"])
    for name in ("last_seen", "sessions_through", "told"):
        rows[name] = np.maximum(one[name], two[name])
    if any((np.bitwise_or.reduce(some)[_HOURS] & _HIGH).any() for some in both):
        for name in ("hours", "watch_hours"):
            total = one[name].astype(np.uint32) + two[name]
            rows[name] = np.minimum(total, 65_535)
    _add_days(rows, one, two)
    _add_fading(rows, one, two)
    _add_country(rows, one, two, texts)


def _add_days(rows: Array, one: Array, two: Array) -> None:
    last = np.maximum(one["last_day"], two["last_day"])
    mask_one, before_one, run_one = _shifted(one, last)
    mask_two, before_two, run_two = _shifted(two, last)
    rows["last_day"] = last
    rows["mask"] = mask_one | mask_two
    rows["days_before"] = before_one + before_two
    rows["run_before"] = np.maximum(run_one, run_two)


def _shifted(rows: Array, last: Array) -> tuple[Array, Array, Array]:
    """Mask, days before it and the run before it, as of a later last day."""
    days = np.where(rows["last_day"] < 0, 0, last - rows["last_day"]).astype(np.uint64)
    mask = rows["mask"]
    if not days.any():
        return mask, rows["days_before"], rows["run_before"]
    some = np.minimum(days, 63)
    kept = np.where(days < WINDOW, mask << some, 0).astype(np.uint64)
    # The days that leave, the newest at bit 0: numpy shifts by 64 as by 0.
    left = np.where(days == 0, 0, np.where(days < WINDOW, mask >> (64 - np.maximum(some, 1)), mask))
    left = left.astype(np.uint64)
    before = rows["days_before"] + np.bitwise_count(left).astype(np.uint32)
    run = streak(left)
    whole = run == np.minimum(days, WINDOW)  # every day that left was active
    run = np.where(whole, run + rows["run_before"], run)
    run = np.where(days > WINDOW, 0, run).astype(np.uint32)
    return kept, before, np.where(days == 0, rows["run_before"], run).astype(np.uint32)


def streak(mask: Array) -> Array:
    """How many of the lowest bits are set in a row."""
    low = ~mask & (mask + _ONE)  # the lowest bit that is not set
    return np.where(mask == _FULL, WINDOW, np.bitwise_count(low - _ONE)).astype(np.uint32)


def _add_fading(rows: Array, one: Array, two: Array) -> None:
    rows["epoch"] = epoch = np.maximum(one["epoch"], two["epoch"])
    if all(((some["epoch"] == epoch) | (some["epoch"] < 0)).all() for some in (one, two)):
        return  # they are sums
    rows["now"] = rows["then"] = 0
    for other in (one, two):
        same, next_ = epoch == other["epoch"], epoch == other["epoch"] + 1
        rows["now"] += other["now"] * same[:, None]
        rows["then"] += other["then"] * same[:, None] + other["now"] * next_[:, None]


def _add_country(rows: Array, one: Array, two: Array, texts: Sequence[str]) -> None:
    later = two["country_at"] > one["country_at"]
    tied = (two["country_at"] == one["country_at"]) & (two["country"] != one["country"])
    for place in tied.nonzero()[0].tolist():
        later[place] = texts[two["country"][place]] > texts[one["country"][place]]
    rows["country"] = np.where(later, two["country"], one["country"])
    rows["country_at"] = np.maximum(two["country_at"], one["country_at"])


FADE = tuple(round(1024 * 2 ** (step / 8)) for step in range(8))


def weight(day: Array) -> Array:
    """What one counts on a day, within its epoch: twice as much every 8 days."""
    return np.array(FADE)[day % 8] << (day % EPOCH_DAYS // 8)


def faded(now: Array, then: Array, epoch: Array, day: Array) -> Array:
    """Sums of two epochs as of a day: what was added 8 days before counts half."""
    unit = np.ldexp(np.array(FADE, float)[day % 8], day // 8 - epoch * (EPOCH_DAYS // 8))
    return (now + then / 65_536.0) / unit
