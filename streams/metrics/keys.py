"""64-bit keys of rows, made of hashes; equal within a process, not across versions of polars.

With a million live keys two of them collide with probability 3e-8.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

Array = np.ndarray

_M1, _M2, _GOLDEN = (
    np.uint64(0xBF58476D1CE4E5B9),
    np.uint64(0x94D049BB133111EB),
    np.uint64(0x9E3779B97F4A7C15),
)
_MANY = 4_000
_CROWDED = 32
"""Keys in a bucket, with which buckets help no more."""
_S30, _S27, _S31 = np.uint64(30), np.uint64(27), np.uint64(31)


def mix(value: Array) -> Array:
    """splitmix64: a bijection that spreads every bit."""
    value = value.astype(np.uint64, copy=True)
    value += _GOLDEN
    value ^= value >> _S30
    value *= _M1
    value ^= value >> _S27
    value *= _M2
    value ^= value >> _S31
    return value


def combine(first: Array, second: Array) -> Array:
    """A key of two; the order matters."""
    return mix(mix(first) ^ second.astype(np.uint64, copy=False))


def of_strings(strings: pl.Series, seed: int = 0) -> Array:
    """A hash of each string; null has one of its own."""
    return strings.hash(seed).to_numpy()


def firsts(key: Array) -> Array:
    """Of sorted keys: True where a key differs from the one before it."""
    first = np.ones(len(key), bool)
    np.not_equal(key[1:], key[:-1], out=first[1:])
    return first


def ordering(key: Array) -> Array:
    """As a stable `argsort` of keys in no order, in a third of the time where they are many.

    What is sorted fastest is not pairs of key and place but single words: small keys leave room for
    the place, others give their lowest bits, and hashes hardly ever differ in nothing else.
    """
    count = len(key)
    if count < _MANY or key.dtype != np.uint64:
        return np.argsort(key, kind="stable")
    bits = (count - 1).bit_length()
    low = np.uint64((1 << bits) - 1)
    words = key & ~low if int(key.max()) >> (64 - bits) else key << np.uint64(bits)
    words |= np.arange(count, dtype=np.uint64)
    words.sort()
    words &= low
    found: Array = words.view(np.int64)
    ordered = key.take(found)
    if (ordered[1:] < ordered[:-1]).any():
        return np.argsort(key, kind="stable")
    return found


def ordering_by(key: Array, then: Array) -> Array:
    """By key and by what comes then, stable. Where nearly all of a key come in that order already,
    only the other keys are sorted by both."""
    found = ordering(key)
    key, then = key.take(found), then.take(found)
    wrong = (key[1:] == key[:-1]) & (then[1:] < then[:-1])
    if wrong.any():
        mine = among(key, key[1:][wrong]).nonzero()[0]
        found[mine] = found[mine][np.lexsort((then[mine], key[mine]))]
    return found


def once(key: Array) -> Array:
    """The place of each key, sorted by key; of equal ones the first."""
    order = ordering(key)
    return order[firsts(key.take(order))]


def numbered(key: Array) -> tuple[Array, Array]:
    """The same, and which of them each key is."""
    order = ordering(key)
    first = firsts(key.take(order))
    number = np.empty(len(key), np.int64)
    number[order] = first.cumsum() - 1
    return order[first], number


def distinct(values: Array) -> Array:
    """Each value once, sorted; `np.unique` takes 2 to 3 times as long, for it hashes first."""
    ordered = np.sort(values)
    return ordered[firsts(ordered)]


def union(*keys: Array) -> Array:
    """All of these keys, each once, sorted."""
    return distinct(np.concatenate([np.zeros(0, np.uint64), *keys]))


def among(values: Array, known: Array) -> Array:
    """Which of the values are among these, which are sorted."""
    if not len(known):
        return np.zeros(len(values), bool)
    many = len(values) > max(_MANY, len(known) // 8)
    at = Buckets.of(known).places(values) if many else known.searchsorted(values)
    found: Array = known.take(at, mode="clip") == values
    return found


@dataclass(frozen=True, kw_only=True)
class Buckets:
    """Sorted keys, and where those with the same first bits begin.

    Hashes are spread evenly: with more buckets than keys, a key lies where its bucket begins or
    next to it. That takes 5 to 10 ns a key in any order, a binary search 80 to 300 (15 to 40 where
    those that are asked for are sorted). Keys that are spread otherwise are searched.
    """

    known: Array
    starts: Array | None
    shift: int = 0

    @staticmethod
    def of(known: Array) -> Buckets:
        """Of sorted 64-bit keys."""
        bits = len(known).bit_length()
        shift = 64 - bits
        if known.dtype != np.uint64 or bits < 2:
            return Buckets(known=known, starts=None)
        counts = np.bincount((known >> np.uint64(shift)).view(np.int64), minlength=1 << bits)
        if counts.max() > _CROWDED:
            return Buckets(known=known, starts=None)
        starts = np.zeros(len(counts), np.int32)
        np.cumsum(counts[:-1], out=starts[1:])
        return Buckets(known=known, starts=starts, shift=shift)

    def places(self, keys: Array) -> Array:
        """Of each key the first place whose key is not less, as `np.searchsorted`."""
        known = self.known
        if self.starts is None:
            return known.searchsorted(keys)
        bucket = (keys >> np.uint64(self.shift)).view(np.int64)
        place = self.starts.take(bucket).astype(np.int64)
        for _ in range(2):
            short = (known.take(place, mode="clip") < keys).nonzero()[0]
            if not len(short):
                return place
            place[short] += 1
        short = (known.take(place, mode="clip") < keys).nonzero()[0]
        place[short] = known.searchsorted(keys.take(short))
        return place
