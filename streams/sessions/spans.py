"""Spans: what is kept of events until their sessions are over.

A span is an event, or several neighbours of one session that nothing can come between any more.
Adding spans up gives what there is to say of a session.

Upstream: frames of accepted events. Downstream: `sessions.py`. Invariants: spans of a key do not
overlap; neighbours give the same sums joined as apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from streamgauge.streams.metrics.keys import combine, of_strings
from streamgauge.streams.metrics.runs import Run, Runs

Array = np.ndarray

COLUMNS = frozenset({"page_url", "device_type", "action", "name"})
"""What is read of events, beside what every frame of events has."""

CONVERSIONS = ("form_submit", "course_interaction:enroll")
"""What counts as a conversion: types of events, or TYPE:ACTION (of custom ones, TYPE:NAME)."""

# Columns of the table.
PARTITION, START, END, EVENTS, VIEWS, CONVERTED, ID, ENTRY, EXIT, USER, DEVICE = range(11)
_DTYPES: tuple[type, ...] = (
    *(np.int32, np.int64, np.int64, np.int64, np.int64, np.int64),
    *(object, object, object, object, object),
)
NO_SPANS = Runs(dtypes=_DTYPES)

_PAGE = pl.col("page_url").str.replace("(?s)[?#].*", "")


def of_events(frame: pl.DataFrame, by_device: bool, conversions: Sequence[str]) -> Run:
    """A span for each event, in the frame's order."""
    did = pl.concat_str("event_type", pl.coalesce("action", "name"), separator=":")
    converts = pl.col("event_type").is_in(conversions) | did.is_in(conversions).fill_null(False)
    read = frame.select(
        view=(pl.col("event_type") == "page_view").cast(pl.Int64),
        converted=converts.cast(pl.Int64),
        page=_PAGE,
    )
    partition, time = frame["partition"].to_numpy(), frame["timestamp"].to_numpy()
    key = combine(of_strings(frame["user_key"]), partition)
    device = np.full(len(key), None, object)
    if by_device:
        key = combine(of_strings(frame["device_type"]), key)
        device = _objects(frame["device_type"])
    page = _objects(read["page"])
    columns: list[Array] = [partition, time, time, np.ones(len(key))]
    columns += [read["view"].to_numpy(), read["converted"].to_numpy()]
    columns += [_objects(frame["event_id"]), page, page, _objects(frame["user_key"]), device]
    return Run(
        key=key,
        columns=tuple(c.astype(d, copy=False) for c, d in zip(columns, _DTYPES, strict=True)),
    )


def ordered(run: Run) -> Run:
    """By key, time and event id."""
    names = {"key": run.key, "start": run.columns[START]}
    table = pl.DataFrame({**names, "id": pl.Series(run.columns[ID].tolist(), dtype=pl.String)})
    return run.take(table.select(pl.arg_sort_by("key", "start", "id")).to_series().to_numpy())


def joined(run: Run, is_first: Array) -> Run:
    """One span of each and those that follow it, up to the next one where the mask is set."""
    first = is_first.nonzero()[0]
    if not len(first):
        return run
    taken = run.take(first)
    columns = list(taken.columns)
    columns[END] = run.columns[END][np.append(first[1:], len(is_first)) - 1]
    for column in (EVENTS, VIEWS, CONVERTED):
        columns[column] = np.add.reduceat(run.columns[column], first)
    columns[ENTRY], columns[EXIT] = _pages(run, first)
    return Run(key=taken.key, columns=tuple(columns))


def _pages(run: Run, first: Array) -> tuple[Array, Array]:
    """The first and the last page of each; None where there is none."""
    place, nowhere = np.arange(len(run.key)), len(run.key)
    has = np.array([page is not None for page in run.columns[ENTRY].tolist()], bool)
    entry = np.minimum.reduceat(np.where(has, place, nowhere), first)
    exit = np.maximum.reduceat(np.where(has, place, -1), first)
    # What points nowhere, past the end or before the begin, finds None there.
    return np.append(run.columns[ENTRY], [None])[entry], np.append(run.columns[EXIT], [None])[exit]


def _objects(series: pl.Series) -> Array:
    objects: Array = np.empty(len(series), object)
    values: list[Any] = series.to_list()
    objects[:] = values
    return objects
