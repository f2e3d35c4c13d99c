"""Rows at rest: of each only the words (8 bytes) that a profile without events does not have.

    row     │ 0 │ 7 │ 0 │ 0 │ 3 │ …     60 words, most of them as in an empty row
    mark     0   1   0   0   1          a bit for each
    words        7           3          what is kept

Most users have few events of few types, so about a third is left. Upstream: `table.py`. Invariants:
never changed in place; what comes back is what was put in, to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from streamgauge.streams.profiles import rows as profile
from streamgauge.streams.profiles.rows import ROW, WIDTH

Array = np.ndarray

_EMPTY = profile.words(profile.empty(1))[0]
_BLOCK = 2048
if ROW.itemsize % 8 or WIDTH > 64:
    raise AssertionError(f"a row of {ROW.itemsize} bytes is not up to 64 words")


@dataclass(frozen=True, kw_only=True)
class Packed:
    """Some rows."""

    marks: Array
    """Of each row: which words differ, as 64 bits."""
    starts: Array
    """Of each row: the place of its first word."""
    words: Array

    def __len__(self) -> int:
        return len(self.marks)

    @staticmethod
    def of(rows: Array) -> Packed:
        marks, words = [np.zeros(0, np.uint64)], [np.zeros(0, np.uint64)]
        for first in range(0, len(rows), _BLOCK):  # as much as the processor's cache takes
            block = np.ascontiguousarray(rows[first : first + _BLOCK])
            raw = profile.words(block) ^ _EMPTY
            differs = np.zeros((len(raw), 64), bool)
            np.not_equal(raw, 0, out=differs[:, :WIDTH])
            marks.append(np.packbits(differs).view(np.uint64))
            words.append(raw.reshape(-1).take(np.flatnonzero(differs[:, :WIDTH])))
        return Packed.placed(np.concatenate(marks), np.concatenate(words))

    def rows(self, places: Array) -> Array:
        """These rows, whole again."""
        raw = np.zeros((len(places), WIDTH), np.uint64)
        for first in range(0, len(places), _BLOCK):
            some = places[first : first + _BLOCK]
            marks, words = self._of(some)
            bits = np.unpackbits(marks.view(np.uint8)).reshape(-1, 64)[:, :WIDTH].view(bool)
            block = raw[first : first + _BLOCK]
            block.reshape(-1)[np.flatnonzero(bits)] = words  # a quarter of what a mask costs
            block ^= _EMPTY
        return raw.view(ROW)[:, 0]

    def _of(self, places: Array) -> tuple[Array, Array]:
        """The marks and words of some rows."""
        marks = self.marks.take(places)
        counts = np.bitwise_count(marks).astype(np.int64)
        ends = counts.cumsum()
        skipped = np.repeat(self.starts.take(places) - (ends - counts), counts)
        return marks, self.words.take(np.arange(len(skipped)) + skipped)

    @staticmethod
    def gathered(parts: Iterable[tuple[Packed, Array]]) -> Packed:
        """Some rows of each, one after the other; unpacking each by itself would cost more."""
        found = [one._of(places) for one, places in parts]
        return Packed.placed(*(np.concatenate(some) for some in zip(*found, strict=True)))

    def field(self, name: str) -> Array:
        """A field of every row, of those that lie in one word: a tenth of unpacking it whole."""
        kind, at = ROW.fields[name][:2]  # type: ignore[index]
        number = at // 8
        bits = np.packbits(np.arange(64) == number).view(np.uint64)
        before = np.packbits(np.arange(64) < number).view(np.uint64)
        there = np.flatnonzero(self.marks & bits)
        place = self.starts[there] + np.bitwise_count(self.marks[there] & before)
        word = np.full(len(self), _EMPTY[number])
        word[there] ^= self.words[place]
        found: Array = word.view(kind)[at % 8 // kind.itemsize :: 8 // kind.itemsize]
        return found

    def only(self, live: Array) -> Packed:
        """Without the other rows."""
        kept = np.repeat(live, np.bitwise_count(self.marks))
        return Packed.placed(self.marks[live], self.words[kept])

    @staticmethod
    def together(parts: Sequence[Packed]) -> Packed:
        if len(parts) == 1:
            return parts[0]
        return Packed.placed(
            np.concatenate([part.marks for part in parts]),
            np.concatenate([part.words for part in parts]),
        )

    @staticmethod
    def placed(marks: Array, words: Array) -> Packed:
        """Rows of these words, one row's after another's."""
        counts = np.bitwise_count(marks)
        ends = counts.cumsum(dtype=np.int64)
        return Packed(marks=marks, starts=(ends - counts).astype(np.uint32), words=words)
