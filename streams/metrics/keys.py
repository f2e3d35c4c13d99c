"""64-bit keys of rows, made of hashes; equal within a process, not across versions of polars.

With a million live keys two of them collide with probability 3e-8.
"""

from __future__ import annotations

import numpy as np
import polars as pl

Array = np.ndarray

_M1, _M2, _GOLDEN = (
    np.uint64(0xBF58476D1CE4E5B9),
    np.uint64(0x94D049BB133111EB),
    np.uint64(0x9E3779B97F4A7C15),
)
_MANY = 4_000
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
    if count < _MANY:
        return np.argsort(key, kind="stable")
    bits = (count - 1).bit_length()
    low = np.uint64((1 << bits) - 1)
    words = key & ~low if int(key.max()) >> (64 - bits) else key << np.uint64(bits)
    words |= np.arange(count, dtype=np.uint64)
    found: Array = (pl.Series(words).sort().to_numpy() & low).view(np.int64)
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
    at = np.searchsorted(known, values)
    at[at == len(known)] = 0
    found: Array = known.take(at) == values
    return found
