"""Rows that are only ever appended, and an index of where those of each key are that count.

    index    key ──> place, …        `Runs`, of each key the newest: small, so merged often
    rows     chunks, by place        large, so put together seldom (`tiers.py`)

Upstream: `latest.py` and `profiles/table.py`. Invariants: nothing is changed in place; places stay.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from typing import TypeVar

import numpy as np

from streamgauge.streams.metrics.keys import firsts
from streamgauge.streams.metrics.runs import Columns, Run, Runs

Array = np.ndarray
Chunk = TypeVar("Chunk", bound=Sized)

FAN = 8
"""Of chunks."""


def located(
    chunks: Sequence[Chunk], places: Array
) -> tuple[list[tuple[Chunk, Array]], Array | None]:
    """The chunks that have any of these places, each with the places in it; and where, among all of
    those, each is. None: there is one, and they are in their order."""
    if len(chunks) == 1:
        return [(chunks[0], places)], None
    ends = np.cumsum([len(chunk) for chunk in chunks])
    of = np.searchsorted(ends, places, side="right")
    order = np.argsort(of, kind="stable")
    bounds = np.searchsorted(of[order], np.arange(len(ends) + 1)).tolist()
    found = [
        (chunk, places[order[low:high]] - (end - len(chunk)))
        for chunk, end, low, high in zip(chunks, ends.tolist(), bounds, bounds[1:], strict=False)
        if high > low
    ]
    if len(found) == 1:
        return found, None
    back = np.empty(len(order), np.int64)
    back[order] = np.arange(len(order))
    return found, back


def parted(chunks: Sequence[Chunk], values: Array) -> Iterator[tuple[Chunk, Array]]:
    """Each chunk with what these values, one a place, are of its rows."""
    ends = np.cumsum([len(chunk) for chunk in chunks])
    return zip(chunks, np.split(values, ends[:-1]), strict=True)


def newest(run: Run) -> Run:
    """Of each key what was added last: the fold of an index."""
    return run.take(np.append(firsts(run.key)[1:], True).nonzero()[0])


def looked_up(index: Runs, keys: Array, nothing: int) -> Columns:
    """What the index has of these keys, or `nothing` of those that it does not have."""
    found = tuple(np.full(len(keys), nothing, dtype) for dtype in index.dtypes)
    for run in index.runs:  # newer ones are in later runs, each key once in each
        at, there = run.search(keys)
        here = there.nonzero()[0]
        at = at.take(here)
        for values, column in zip(found, run.columns, strict=True):
            values[here] = column.take(at)
    return found


def everything(index: Runs) -> Run:
    """All keys, sorted, with what counts of each."""
    run = index.where(lambda run: np.ones(len(run), bool))
    return newest(run.take(np.argsort(run.key, kind="stable"))) if len(index.runs) > 1 else run
