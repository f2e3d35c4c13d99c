"""Spans: what is kept of events until their sessions are over.

A span is an event, or several of one session that will always be in one session, whatever comes.
Adding spans up gives what there is to say of a session.

Upstream: frames of accepted events. Downstream: `sessions.py`. Invariants: kept spans of a key do
not overlap, and events lie beside or inside of one; spans give the same sums joined as apart.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from streamgauge.streams.latest import Latest
from streamgauge.streams.metrics.keys import combine, firsts, of_strings
from streamgauge.streams.metrics.runs import Run

Array = np.ndarray
Plays = frozenset[tuple[str, str]]
"""Series and episode of what was completed."""

COLUMNS = frozenset(
    {"page_url", "device_type", "action", "name", "series_id", "episode", "item_id"}
)
"""What is read of events, beside what every frame of events has."""

CONVERSIONS = ("form_submit", "course_interaction:enroll")
"""What counts as a conversion: types of events, or TYPE:ACTION (of custom ones, TYPE:NAME)."""

BINGE = 3
"""Episodes of one series, completed in one session."""

# Columns of the table.
PARTITION, START, END, EVENTS, VIEWS, CONVERTED, PLAYED, BINGED, ENTRY_AT, EXIT_AT = range(10)
ENTRY_ID, EXIT_ID, ENTRY, EXIT, PLAYS, USER, DEVICE = range(10, 17)
DTYPES: tuple[type, ...] = (
    *(np.int32, np.int64, np.int64, np.int32, np.int32, np.int32, np.int32, np.bool_),
    *(np.int64, np.int64, object, object, object, object, object, object, object),
)
NO_SPANS = Latest.of(*DTYPES)
NO_RUN = Run(key=np.zeros(0, np.uint64), columns=tuple(np.zeros(0, dtype) for dtype in DTYPES))

_PAGE = pl.col("page_url").str.replace("(?s)[?#].*", "")
FAR = int(np.iinfo(np.int64).max)
"""The time of no page."""


@dataclass(frozen=True, kw_only=True)
class Arrived:
    """Events of a batch that count for their users, as spans; and of all events of the batch, by
    partition, what a restart has to know."""

    users: Run
    devices: Run
    offset: Array
    """Of each of these."""
    offsets: Mapping[int, int]
    """The last one."""
    oldest: Mapping[int, tuple[int, int]]
    """The first offset and the earliest timestamp."""


def arrived(
    frame: pl.DataFrame, identifiable: pl.Expr, conversions: Sequence[str] = CONVERSIONS
) -> Arrived:
    """What a frame brings that is sorted by partition and offset."""
    if not frame.height:
        none = np.zeros(0, np.int64)
        return Arrived(users=NO_RUN, devices=NO_RUN, offset=none, offsets={}, oldest={})
    partition = frame["partition"].to_numpy()
    first = firsts(partition).nonzero()[0]
    offset = frame["offset"].to_numpy()
    earliest = np.minimum.reduceat(frame["timestamp"].to_numpy(), first).tolist()
    numbers = partition[first].tolist()
    mine = frame.filter(identifiable)
    users = _of_events(mine, conversions)
    devices = pl.Series(users.columns[DEVICE].tolist(), dtype=pl.String)
    return Arrived(
        users=users,
        devices=Run(key=combine(of_strings(devices), users.key), columns=users.columns),
        offset=mine["offset"].to_numpy(),
        offsets=dict(
            zip(numbers, offset[np.append(first[1:], len(offset)) - 1].tolist(), strict=True)
        ),
        oldest=dict(zip(numbers, zip(offset[first].tolist(), earliest, strict=True), strict=True)),
    )


def _of_events(frame: pl.DataFrame, conversions: Sequence[str]) -> Run:
    """A span for each event, in the frame's order."""
    if not frame.height:
        return NO_RUN
    did = pl.concat_str("event_type", pl.coalesce("action", "name"), separator=":")
    converts = pl.col("event_type").is_in(conversions) | did.is_in(conversions).fill_null(False)
    read = frame.select(
        view=pl.col("event_type") == "page_view",
        converted=converts,
        played=pl.col("event_type") == "playback",
        page=_PAGE,
    )
    partition, time = frame["partition"].to_numpy(), frame["timestamp"].to_numpy()
    page, event_id = _interned(read["page"]), objects(frame["event_id"].to_list())
    is_page = read["page"].is_not_null().to_numpy()
    columns: list[Array] = [partition, time, time, np.ones(len(time))]
    columns += [read[name].to_numpy() for name in ("view", "converted", "played")]
    columns += [np.zeros(len(time)), np.where(is_page, time, FAR), np.where(is_page, time, -FAR)]
    event_id[~is_page] = None
    columns += [event_id, event_id, page, page, _completed(frame, read["played"].to_numpy())]
    columns += [objects(frame["user_key"].to_list()), _interned(frame["device_type"])]
    return Run(
        key=user_keys(frame["user_key"], partition),
        columns=tuple(c.astype(d, copy=False) for c, d in zip(columns, DTYPES, strict=True)),
    )


def user_keys(users: pl.Series, partition: Array) -> Array:
    """Where a user of a partition is to be found."""
    return combine(of_strings(users), partition)


def _completed(frame: pl.DataFrame, played: Array) -> Array:
    """Of each event, the episode that it completed; None where it did not."""
    plays = np.full(len(played), None, object)
    for place in played.nonzero()[0].tolist():
        row = frame.row(place, named=True)
        episode = row["episode"] if row["episode"] is not None else row["item_id"]
        if row["action"] == "complete" and row["series_id"] is not None and episode is not None:
            plays[place] = frozenset([(row["series_id"], episode)])
    return plays


def ordered(run: Run) -> Run:
    """By key and start."""
    return run.take(_order(run))


def ordered_with(run: Run, beside: Array) -> tuple[Run, Array]:
    """The same, and what lies beside it."""
    order = _order(run)
    return run.take(order), beside[order]


def _order(run: Run) -> Array:
    return np.lexsort((run.columns[START], run.key))


def joined(run: Run, is_first: Array) -> Run:
    """One span of each and those that follow it, up to the next one where the mask is set."""
    first = is_first.nonzero()[0]
    if len(first) == len(is_first):
        return run
    columns = list(run.take(first).columns)
    columns[END] = np.maximum.reduceat(run.columns[END], first)
    for column in (EVENTS, VIEWS, CONVERTED, PLAYED):
        columns[column] = np.add.reduceat(run.columns[column], first)
    columns[BINGED] = np.logical_or.reduceat(run.columns[BINGED], first)
    group = is_first.cumsum() - 1
    for column, name, page, earliest in (
        (ENTRY_AT, ENTRY_ID, ENTRY, True),
        (EXIT_AT, EXIT_ID, EXIT, False),
    ):
        best = _outermost(run.columns[column], run.columns[name], first, group, earliest)
        for taken in (column, name, page):
            columns[taken] = run.columns[taken][best]
    columns[PLAYS] = _united(run.columns[PLAYS], group, columns[BINGED])
    return Run(key=run.key[first], columns=tuple(columns))


def _outermost(at: Array, name: Array, first: Array, group: Array, earliest: bool) -> Array:
    """Of each group the first or last page: by time and, at the same time, by event id."""
    pick = np.minimum if earliest else np.maximum
    same = (at == pick.reduceat(at, first)[group]).nonzero()[0]
    owner = group[same]
    best = np.zeros(len(first), np.int64)
    best[owner] = same
    counts = np.bincount(owner)
    for place, end in zip((counts > 1).nonzero()[0], counts.cumsum()[counts > 1], strict=True):
        ties = [n for n in same[end - counts[place] : end].tolist() if name[n] is not None]
        if ties:
            best[place] = (min if earliest else max)(ties, key=name.__getitem__)
    return best


def _united(plays: Array, group: Array, binged: Array) -> Array:
    """What each group completed, until it is a binge: then that is all there is to know."""
    united: Array = np.full(len(binged), None, object)
    for place in (plays != None).nonzero()[0].tolist():  # noqa: E711
        number = group[place]
        if not binged[number]:
            united[number] = plays[place] | (united[number] or frozenset())
            if len(united[number]) >= BINGE:
                series = Counter(of for of, _ in united[number])
                binged[number] = max(series.values()) >= BINGE
        if binged[number]:
            united[number] = None
    return united


def concatenated(runs: Sequence[Run]) -> Run:
    """All of these, one after the other."""
    runs = [run for run in runs if len(run.key)]
    if len(runs) <= 1:
        return runs[0] if runs else NO_RUN
    return Run(
        key=np.concatenate([run.key for run in runs]),
        columns=tuple(
            np.concatenate(columns) for columns in zip(*(run.columns for run in runs), strict=True)
        ),
    )


def objects(values: Sequence[Any]) -> Array:
    """A column of these."""
    column: Array = np.empty(len(values), object)
    column[:] = values
    return column


def _interned(texts: pl.Series) -> Array:
    """Few different texts, each once in memory."""
    return objects([text if text is None else sys.intern(text) for text in texts.to_list()])
