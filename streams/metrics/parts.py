"""Parts: the integers that metrics are made of, and how they add up.

A row holds, for each part that was observed, a *slot* (which part, and for quantiles which
bucket) and a value. Sums are added; minima and maxima are kept; so rows of one key can be
combined in any order and grouping with the same result.

    slot, 30 bits:  op (2) | part (10) | bucket + 2^17 (18; 0 for parts that are no quantiles)

On the wire (`MetricPartial.parts`) a row is its entries, sorted by slot, 12 bytes each.
The numbering of parts follows from the grain's definitions, and so belongs to its version.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from streamgauge.schemas.metrics import (
    GAMMA,
    SMALLEST_QUANTILE_VALUE,
    Grain,
    Metric,
    Selection,
)
from streamgauge.streams.metrics.keys import firsts

Array = np.ndarray

SUM, MIN, MAX = 0, 1, 2
PART_BITS, BUCKET_BITS = 10, 18
BUCKET_ZERO = 1 << (BUCKET_BITS - 1)
ZERO_BUCKET = -(BUCKET_ZERO - 1)
"""The bucket of values that are zero, or as good as."""

ENTRY = np.dtype([("slot", "<u4"), ("value", "<i8")])


class Entries(NamedTuple):
    """Parts of many rows: `row` numbers them."""

    row: Array
    slot: Array
    value: Array


@dataclass(frozen=True, kw_only=True)
class Part:
    """One integer of a row, or one per bucket."""

    op: int
    selection: Selection
    reads: str
    """What is added up: "one" (events), "seen" (observations), "value", "bucket" or "user"."""


def slot(op: int, part: int) -> int:
    return op << (PART_BITS + BUCKET_BITS) | part << BUCKET_BITS


def bucket_slots(part: int, numbers: Array) -> Array:
    return numbers + (BUCKET_ZERO + slot(SUM, part))


def part_of(slots: Array) -> Array:
    return (slots >> BUCKET_BITS) & ((1 << PART_BITS) - 1)


def bucket_of(slots: Array) -> Array:
    return (slots & ((1 << BUCKET_BITS) - 1)).astype(np.int64) - BUCKET_ZERO


def metric_parts(metric: Metric) -> tuple[Part, ...]:
    """What a metric needs: numerator first, denominator or number of observations second."""

    def of(reads: str, op: int = SUM, selection: Selection = metric.selection) -> Part:
        return Part(op=op, selection=selection, reads=reads)

    match metric.aggregate:
        case "count":
            return (of("one"),)
        case "sum" | "mean":
            return (of("value"), of("seen"))
        case "min":
            return (of("value", MIN),)
        case "max":
            return (of("value", MAX),)
        case "distinct_users":
            return (of("user"),)
        case "quantiles":
            return (of("bucket"),)
        case _:
            return tuple(
                of("value" if selection.field else "one", selection=selection)
                for selection in metric.selections
            )


def grain_parts(grain: Grain) -> tuple[Part, ...]:
    """All parts of a row, each once; a part's place is its number."""
    parts = tuple(dict.fromkeys(p for metric in grain.metrics for p in metric_parts(metric)))
    if len(parts) > 1 << PART_BITS:
        raise ValueError(f"more than {1 << PART_BITS} parts in one grain: use several breakdowns")
    return parts


def buckets(values: Array) -> Array:
    """The DDSketch bucket of each value."""
    zero = values <= SMALLEST_QUANTILE_VALUE
    logs = np.log(np.where(zero, 1.0, values)) / math.log(GAMMA)
    return np.where(zero, ZERO_BUCKET, np.ceil(logs).astype(np.int64))


def bucket_values(numbers: Array) -> Array:
    """What a bucket stands for: within 1 % of all values in it."""
    return np.where(numbers == ZERO_BUCKET, 0.0, 2 * GAMMA ** numbers.astype(float) / (GAMMA + 1))


def combined(entries: Entries) -> Entries:
    """One entry for each row and slot, sorted by them."""
    code = entries.row.astype(np.int64) << (2 + PART_BITS + BUCKET_BITS)
    code |= entries.slot.astype(np.int64)
    order = np.argsort(code, kind="stable")
    code, value = code[order], entries.value[order]
    first = firsts(code).nonzero()[0]
    if len(first) < len(code):
        slots = entries.slot[order][first]
        total = np.add.reduceat(value, first)
        op = slots >> (PART_BITS + BUCKET_BITS)
        if op.any():
            total = np.where(op == MIN, np.minimum.reduceat(value, first), total)
            total = np.where(op == MAX, np.maximum.reduceat(value, first), total)
        value = total
    index = order[first]
    return Entries(entries.row[index], entries.slot[index], value)


def pack(entries: Entries, rows: int) -> list[bytes]:
    """The bytes of each row; entries are sorted by row."""
    packed = np.empty(len(entries.row), ENTRY)
    packed["slot"], packed["value"] = entries.slot, entries.value
    data = packed.tobytes()
    bounds = np.searchsorted(entries.row, np.arange(rows + 1)) * ENTRY.itemsize
    return [data[low:high] for low, high in pairwise(bounds.tolist())]


def unpack(rows: Sequence[bytes]) -> Entries:
    """The entries of each row."""
    packed = np.frombuffer(b"".join(rows), ENTRY)
    sizes = np.fromiter(map(len, rows), np.int64, len(rows)) // ENTRY.itemsize
    return Entries(
        np.repeat(np.arange(len(rows)), sizes), packed["slot"].copy(), packed["value"].copy()
    )
