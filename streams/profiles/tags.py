"""What is counted by name: affinities, devices, priorities, days; few of a user, of many names.

A row is one name of one user: slot << 32 | code of the name, the epoch, the sum in it and in the
one before (names that do not fade have the epoch 0). Rows of equal key add up.

Upstream: `digest.py`. Downstream: `profiles.py`, `parts.py`. Invariants: codes only grow, so a
state that was kept can still be read; adding is commutative and associative.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import polars as pl

from streamgauge.streams.metrics.keys import firsts, ordering
from streamgauge.streams.metrics.runs import Columns, Run, Runs, concatenated, spread

Array = np.ndarray

NO_DAY = -1
KINDS = ("", "genre", "type", "device", "quality", "created", "completed", "day")
"""What names begin with: `genre:drama`, `day:20461:events`, `device:mobile|390x844|fast`."""


PARTS = ("events", "sessions", "ms", "created", "completed")
"""What is counted of a day, beside its genres: `day:20461:genre:drama`."""

_NONE = np.array([2**64 - 1], np.uint64), np.zeros(1, np.uint32)
"""Keys and codes: the largest key, so that the search for any ends in the table."""


class Names:
    """Texts as codes; 0 is the empty one."""

    def __init__(self) -> None:
        self.texts: list[str] = [""]
        self._codes: dict[str, int] = {"": 0}
        self._rows = [(0, NO_DAY, 0, 0)]
        self._table = np.array(self._rows)
        self._known: dict[str, tuple[Array, Array]] = {}

    def code(self, text: str) -> int:
        code = self._codes.get(text)
        if code is None:
            row = self._row(text)
            code = self._codes[text] = len(self.texts)
            self.texts.append(text)
            self._rows.append(row)
        return code

    def _row(self, text: str) -> tuple[int, int, int, int]:
        kind, _, rest = text.partition(":")
        if kind != "day":
            return KINDS.index(kind) if kind in KINDS else 0, NO_DAY, 0, 0
        day, _, what = rest.partition(":")
        if what in PARTS:
            return KINDS.index(kind), int(day), PARTS.index(what), 0
        return KINDS.index(kind), int(day), len(PARTS), self.code(what)

    def codes(self, texts: Iterable[str]) -> Array:
        return np.array([self.code(text) for text in texts], np.uint32)

    def known(self, kind: str, keys: Array, told: Callable[[Array], Iterable[str]]) -> Array:
        """The codes of names by keys of 64 bits, of a kind of its own; texts are made only of those
        that are new: `told` says the texts of what is at some places."""
        keys = keys.view(np.uint64)
        table, codes = self._known.get(kind, _NONE)
        at = np.searchsorted(table, keys)
        new = (table.take(at) != keys).nonzero()[0]
        if not len(new):
            return codes.take(at)
        added, first = np.unique(keys[new], return_index=True)
        table = np.concatenate([table, added])
        codes = np.concatenate([codes, self.codes(told(new[first]))])
        order = np.argsort(table)
        self._known[kind] = table[order], codes[order]
        return self.known(kind, keys, told)

    def of_days(self, what: str, days: Array) -> Array:
        """The codes of what is counted on each of these days."""

        def told(places: Array) -> Iterable[str]:
            return (f"day:{one}:{what}" for one in days[places].tolist())

        return self.known(f"day:{what}", days, told)

    def kind(self, codes: Array) -> Array:
        """The places in KINDS."""
        return self._column(0, codes)

    def day(self, codes: Array) -> Array:
        """The days of names of the kind `day`."""
        return self._column(1, codes)

    def part(self, codes: Array) -> Array:
        """What they count: the place in PARTS, or behind it for a genre."""
        return self._column(2, codes)

    def genre(self, codes: Array) -> Array:
        """The codes of their genres."""
        return self._column(3, codes)

    def rank(self, codes: Array) -> Array:
        """Their order by text."""
        known, which = self.each(codes)
        texts = np.array([self.texts[code] for code in known.tolist()])
        rank: Array = np.argsort(np.argsort(texts))[which]
        return rank

    def all(self, codes: Array) -> pl.Series:
        """Their texts."""
        known, which = self.each(codes)
        texts = [self.texts[code] for code in known.tolist()]
        return pl.Series(texts, dtype=pl.String)[which]

    def said(self, codes: Array) -> pl.Series:
        """Their texts without the kind; null for 0."""
        known, which = self.each(codes)
        texts = [self.texts[code].partition(":")[2] if code else None for code in known.tolist()]
        return pl.Series(texts, dtype=pl.String)[which]

    def each(self, codes: Array) -> tuple[Array, Array]:
        """The codes that occur, and which of them each is: by a table, which beats sorting."""
        place = np.zeros(len(self.texts), np.int64)
        place[codes] = 1
        known = place.nonzero()[0]
        place[known] = np.arange(len(known))
        return known, place[codes]

    def _column(self, number: int, codes: Array) -> Array:
        if len(self._table) < len(self._rows):
            self._table = np.array(self._rows)
        column: Array = self._table[:, number][codes]
        return column


def summed(run: Run) -> Run:
    """One row of each key."""
    first = firsts(run.key)
    if first.all():
        return run
    starts = first.nonzero()[0]
    epoch, now, then = run.columns
    latest = np.maximum.reduceat(epoch, starts)
    behind = latest[first.cumsum() - 1] - epoch
    return Run(
        key=run.key[starts],
        columns=(
            latest,
            np.add.reduceat(np.where(behind == 0, now, 0), starts),
            np.add.reduceat(np.where(behind == 0, then, np.where(behind == 1, now, 0)), starts),
        ),
    )


NO_TAGS = Runs(dtypes=(np.int32, np.int64, np.int64), fold=summed)


def gathered(owner: Array, code: Array, epoch: Array, now: Array) -> Run:
    """New rows, each key once: owner << 32 | code."""
    columns = (epoch.astype(np.int32, copy=False), now, np.zeros(len(now), np.int64))
    return _in_order(owner.astype(np.uint64), code.astype(np.uint64), columns)


def of_slots(table: Runs, slots: Array) -> Run:
    """All rows of users (slots, each once), by the users' places: place << 32 | code."""
    by_slot = ordering(slots.astype(np.uint64))
    low = slots[by_slot].astype(np.uint64) << np.uint64(32)
    places, runs = [by_slot[:0]], [Run(key=low[:0], columns=table.nothing())]
    for run in table.runs:
        start = np.searchsorted(run.key, low)
        count = np.searchsorted(run.key, low + np.uint64(2**32)) - start
        which, index = spread(start, count)
        places.append(by_slot[which])
        runs.append(run.take(index))
    found = concatenated(runs)
    return _in_order(np.concatenate(places).view(np.uint64), code_of(found.key), found.columns)


def _in_order(owner: Array, code: Array, columns: Columns) -> Run:
    bits = np.uint64(int(code.max(initial=0)).bit_length())
    order = ordering(owner << bits | code)  # in few bits, which are sorted faster
    key = owner << np.uint64(32) | code
    return summed(Run(key=key, columns=columns).take(order))


def without_days(table: Runs, names: Names, before: int) -> Runs:
    """Without the days that nothing can change any more."""

    def recent(run: Run) -> Array:
        day = names.day(code_of(run.key))
        return (day == NO_DAY) | (day >= before)

    return table.keep(recent)


def code_of(key: Array) -> Array:
    """The names' codes in keys."""
    return (key & np.uint64(2**32 - 1)).astype(np.uint32)
