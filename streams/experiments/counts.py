"""How many users have which value, in buckets: what quantiles of an experiment are made of.

Upstream: `tally.py`, with the values of users before and after a batch. Downstream: rows of
`experiment-partials`, and `quantiles.py`. Which bucket a value is in is said in
`schemas/experiments.py`.

Invariants: whole numbers of users, so adding and taking away in any order gives the same; buckets
ascend, and none has 0 users.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from streamgauge.schemas.experiments import BUCKET_BITS

Array = np.ndarray

_POWERS = 2 ** np.arange(63, dtype=np.int64)
_HALF = 1 << (BUCKET_BITS - 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Counts:
    """Users by bucket."""

    bucket: Array
    users: Array

    @staticmethod
    def of(values: Array) -> Counts:
        """Of whole numbers, one a user."""
        bucket, users = np.unique(bucket_of(values), return_counts=True)
        return Counts(bucket=bucket, users=users.astype(np.int64))

    def __add__(self, other: Counts) -> Counts:
        return self._with(other, 1)

    def __sub__(self, other: Counts) -> Counts:
        return self._with(other, -1)

    def _with(self, other: Counts, sign: int) -> Counts:
        bucket, place = np.unique(np.r_[self.bucket, other.bucket], return_inverse=True)
        users = np.zeros(len(bucket), np.int64)
        np.add.at(users, place, np.r_[self.users, sign * other.users])
        return Counts(bucket=bucket[users != 0], users=users[users != 0])

    def to_json(self) -> str:
        """[[bucket, users], ...]"""
        return json.dumps(np.column_stack([self.bucket, self.users]).tolist())

    @staticmethod
    def of_json(text: str) -> Counts:
        table = np.array(json.loads(text), np.int64).reshape(-1, 2)
        return Counts(bucket=table[:, 0], users=table[:, 1])


def bucket_of(values: Array) -> Array:
    """Of each value."""
    size = np.abs(values)
    shift = np.maximum(np.searchsorted(_POWERS, size, side="right") - BUCKET_BITS, 0)
    return np.sign(values) * (shift * _HALF + (size >> shift))


def ends_of(bucket: Array) -> tuple[Array, Array]:
    """The least and the greatest value of each bucket."""
    size = np.abs(bucket)
    shift = np.maximum(size // _HALF - 1, 0)
    least = (size - shift * _HALF) << shift
    most = least + (np.int64(1) << shift) - 1
    return np.where(bucket < 0, -most, least), np.where(bucket < 0, -least, most)
