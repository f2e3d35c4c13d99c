"""Spans: what is kept of events until their sessions are over.

A span is an event, or several of one session that will always be in one session, whatever comes.
Adding spans up gives what there is to say of a session.

Upstream: frames of accepted events. Downstream: `sessions.py`. Invariants: kept spans of a key do
not overlap, and events lie beside or inside of one; spans give the same sums joined as apart.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from streamgauge.streams.latest import Latest
from streamgauge.streams.metrics.keys import combine, firsts, numbered, of_strings, ordering_by
from streamgauge.streams.metrics.runs import Run, together
from streamgauge.streams.metrics.runs import concatenated as all_of
from streamgauge.streams.sessions.texts import Texts

Array = np.ndarray

COLUMNS = frozenset(
    {"page_url", "device_type", "action", "name", "series_id", "episode", "item_id"}
)
"""What is read of events, beside what every frame of events has."""
_READ = ("partition", "offset", "timestamp", "event_type", "event_id", "user_key", *COLUMNS)

CONVERSIONS = ("form_submit", "course_interaction:enroll")
"""What counts as a conversion: types of events, or TYPE:ACTION (of custom ones, TYPE:NAME)."""

BINGE = 3
"""Episodes of one series, completed in one session."""

TEXTS = ("entry_id", "exit_id", "entry", "exit", "plays", "user", "device")
"""Fields that are numbers of texts; `plays`: JSON [[series, episode], …] of what was completed."""
SPAN = np.dtype(
    [
        *((name, np.int64) for name in ("start", "end", "entry_at", "exit_at")),
        *((name, np.int32) for name in ("events", "views", "converted", "played", *TEXTS)),
        ("partition", np.int16),
        ("binged", np.int16),
    ]
)
"""A row: all of it is copied at once, and nothing of it is an object."""
NO_SPANS = Latest.of(SPAN, np.int32)
"""Open spans, with the minutes at which they are over: these are looked through once a minute."""
NO_ROWS = Run(key=np.zeros(0, np.uint64), columns=(np.zeros(0, SPAN),))


@dataclass(frozen=True, kw_only=True)
class Spans:
    """Rows with the texts that they name."""

    key: Array
    rows: Array
    texts: Texts

    @staticmethod
    def none() -> Spans:
        return Spans(key=NO_ROWS.key, rows=NO_ROWS.columns[0], texts=Texts())

    def take(self, index: Array) -> Spans:
        return replace(self, key=self.key.take(index), rows=self.rows.take(index))

    def text(self, name: str, where: Array | None = None) -> pl.Series:
        """The texts of a field, null elsewhere."""
        numbers = self.rows[name]
        return self.texts.of(numbers if where is None else np.where(where, numbers, 0))


@dataclass(frozen=True, kw_only=True)
class Read:
    """Rows with texts of their own: number n is the n-th of these, from 1 on."""

    run: Run
    texts: pl.Series

    def joined_to(self, texts: Texts) -> tuple[Run, Texts]:
        """The same rows, with the texts among these."""
        return shifted(self.run, len(texts) - 1), texts.add(self.texts)


def shifted(run: Run, by: int) -> Run:
    """With greater numbers of texts."""
    rows = together(run.columns)
    for name in TEXTS:
        rows[name] += (rows[name] > 0) * np.int32(by)
    return Run(key=run.key, columns=(rows,))


_PAGE = pl.col("page_url").str.replace("(?s)[?#].*", "")
FAR = int(np.iinfo(np.int64).max)
"""The time of no page."""


@dataclass(frozen=True, kw_only=True)
class Arrived:
    """Events of a batch that count for their users, as spans; and of all events of the batch, by
    partition, what a restart has to know."""

    users: Run
    devices: Run
    texts: pl.Series
    """What both name."""
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
        none, nothing = np.zeros(0, np.int64), pl.Series(dtype=pl.String)
        return Arrived(
            users=NO_ROWS, devices=NO_ROWS, texts=nothing, offset=none, offsets={}, oldest={}
        )
    partition = frame["partition"].to_numpy()
    first = firsts(partition).nonzero()[0]
    offset = frame["offset"].to_numpy()
    earliest = np.minimum.reduceat(frame["timestamp"].to_numpy(), first).tolist()
    numbers = partition[first].tolist()
    wanted = frame.select(identifiable).to_series()
    mine = frame if wanted.all() else frame.select(*_READ).filter(wanted)
    found = _of_events(mine, conversions)
    users = found.run
    return Arrived(
        users=users,
        devices=Run(key=combine(of_strings(mine["device_type"]), users.key), columns=users.columns),
        texts=found.texts,
        offset=mine["offset"].to_numpy(),
        offsets=dict(
            zip(numbers, offset[np.append(first[1:], len(offset)) - 1].tolist(), strict=True)
        ),
        oldest=dict(zip(numbers, zip(offset[first].tolist(), earliest, strict=True), strict=True)),
    )


def _of_events(frame: pl.DataFrame, conversions: Sequence[str]) -> Read:
    """A span for each event, in the frame's order."""
    did = pl.concat_str("event_type", pl.coalesce("action", "name"), separator=":")
    converts = pl.col("event_type").is_in(conversions) | did.is_in(conversions).fill_null(False)
    read = frame.select(
        views=pl.col("event_type") == "page_view",
        converted=converts,
        played=pl.col("event_type") == "playback",
        page=_PAGE,
    )
    partition, time = frame["partition"].to_numpy(), frame["timestamp"].to_numpy()
    is_page = read["page"].is_not_null()
    place = is_page.to_numpy()
    rows = np.zeros(len(time), SPAN)
    rows["partition"], rows["start"], rows["end"], rows["events"] = partition, time, time, 1
    for name in ("views", "converted", "played"):
        rows[name] = read[name].to_numpy()
    rows["entry_at"], rows["exit_at"] = np.where(place, time, FAR), np.where(place, time, -FAR)
    texts = [frame["user_key"], frame["event_id"].filter(is_page)]
    rows["user"] = np.arange(1, len(time) + 1)
    rows["entry_id"] = rows["exit_id"] = np.where(place, len(time) + place.cumsum(), 0)
    for names, column in (
        (("entry", "exit"), read["page"]),
        (("device",), frame["device_type"]),
        (("plays",), _completed(frame)),
    ):
        some, number = _once(column)
        for name in names:
            rows[name] = number + (number > 0) * sum(map(len, texts))
        texts.append(some)
    return Read(
        run=Run(key=user_keys(frame["user_key"], partition), columns=(rows,)),
        texts=pl.concat([text.rename("") for text in texts], rechunk=True),
    )


def _once(texts: pl.Series) -> tuple[pl.Series, Array]:
    """Few different texts, each once; and the number of each, 0 for null."""
    if texts.null_count() == len(texts):
        return texts.clear(), np.zeros(len(texts), np.int64)
    first, number = numbered(of_strings(texts))
    return texts.gather(first), np.where(texts.is_not_null().to_numpy(), number + 1, 0)


def user_keys(users: pl.Series, partition: Array) -> Array:
    """Where a user of a partition is to be found."""
    return combine(of_strings(users), partition)


def _completed(frame: pl.DataFrame) -> pl.Series:
    """Of each event, the episode that it completed; null where it did not."""
    episode = pl.coalesce("episode", "item_id")
    whole = (pl.col("event_type") == "playback") & (pl.col("action") == "complete")
    whole &= pl.col("series_id").is_not_null() & episode.is_not_null()
    place = frame.select(whole.fill_null(False)).to_series().to_numpy().nonzero()[0]
    if not len(place):
        return pl.Series(dtype=pl.String).extend_constant(None, frame.height)
    some = frame[place].select("series_id", episode.alias("episode"))
    texts = pl.Series([plays_text({play}) for play in some.iter_rows()], dtype=pl.String)
    index = np.zeros(frame.height, np.int64)
    index[place] = np.arange(1, len(place) + 1)
    return pl.concat([pl.Series([None], dtype=pl.String), texts]).gather(index)


def plays_text(plays: Iterable[tuple[str, str]]) -> str:
    return json.dumps(sorted(plays), ensure_ascii=False)


def ordered(spans: Spans) -> Spans:
    """By key and start."""
    return spans.take(ordering_by(spans.key, spans.rows["start"]))


def ordered_with(spans: Spans, beside: Array) -> tuple[Spans, Array]:
    """The same, and what lies beside it."""
    order = ordering_by(spans.key, spans.rows["start"])
    return spans.take(order), beside[order]


def joined(spans: Spans, is_first: Array) -> Spans:
    """One span of each and those that follow it, up to the next one where the mask is set."""
    first = is_first.nonzero()[0]
    if len(first) == len(is_first):
        return spans
    was, rows = spans.rows, spans.rows.take(first)
    rows["end"] = np.maximum.reduceat(was["end"], first)
    for name in ("events", "views", "converted", "played"):
        rows[name] = np.add.reduceat(was[name], first)
    rows["binged"] = np.maximum.reduceat(was["binged"], first)
    group = is_first.cumsum() - 1
    for at, name, page, earliest in (
        ("entry_at", "entry_id", "entry", True),
        ("exit_at", "exit_id", "exit", False),
    ):
        best = _outermost(spans, at, name, first, group, earliest)
        for taken in (at, name, page):
            rows[taken] = was[taken][best]
    texts = _unite(spans, group, rows)
    return Spans(key=spans.key[first], rows=rows, texts=texts)


def _outermost(
    spans: Spans, at: str, name: str, first: Array, group: Array, earliest: bool
) -> Array:
    """Of each group the first or last page: by time and, at the same time, by event id."""
    time, pick = spans.rows[at], np.minimum if earliest else np.maximum
    same = (time == pick.reduceat(time, first)[group]).nonzero()[0]
    best = first.copy()
    best[group[same]] = same
    same = same[spans.rows[name][same] > 0]
    owner = group[same]
    tied = (np.bincount(owner, minlength=len(first)) > 1)[owner]
    if tied.any():
        same, owner = same[tied], owner[tied]
        names = spans.texts.of(spans.rows[name][same])
        order = np.lexsort((names.rank("dense").to_numpy(), owner))
        chosen = firsts(owner[order])
        if not earliest:
            chosen = np.append(chosen[1:], True)
        best[owner[order][chosen]] = same[order][chosen]
    return best


def _unite(spans: Spans, group: Array, rows: Array) -> Texts:
    """What each group completed, until it is a binge: then that is all there is to know."""
    place = (spans.rows["plays"] > 0).nonzero()[0]
    rows["plays"] = 0
    place = place[rows["binged"][group[place]] == 0]
    if not len(place):
        return spans.texts
    owner = group[place]
    rows["plays"][owner] = spans.rows["plays"][place]
    several = (np.bincount(owner, minlength=len(rows)) > 1)[owner]
    if not several.any():
        return spans.texts
    united: dict[int, set[tuple[str, str]]] = {}
    texts = spans.texts.of(spans.rows["plays"][place[several]]).to_list()
    for number, text in zip(owner[several].tolist(), texts, strict=True):
        united.setdefault(number, set()).update(map(tuple, json.loads(text)))
    added: list[str] = []
    for number, plays in united.items():
        if max(Counter(series for series, _ in plays).values()) >= BINGE:
            rows["binged"][number], rows["plays"][number] = 1, 0
        else:
            rows["plays"][number] = len(spans.texts) + len(added)
            added.append(plays_text(plays))
    return spans.texts.add(pl.Series(added, dtype=pl.String))


def concatenated(runs: Sequence[Run]) -> Run:
    """All of these, one after the other."""
    some = [run for run in runs if len(run)]
    return all_of(some) if some else NO_ROWS
