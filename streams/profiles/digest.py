"""A batch of events as profiles: what each user did in each round of it.

A profile of some events adds to that of others (`rows.py`), so a batch is read once, column by
column, and each round is a slice of what came of it.

Upstream: accepted events of users who may be known. Downstream: `profiles.py`. Invariants: which
events are in a batch, and in which order, does not matter to the sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from streamgauge.streams.metrics.keys import combine, firsts, of_strings, ordering, ordering_by
from streamgauge.streams.metrics.runs import Run
from streamgauge.streams.profiles import rows as profile
from streamgauge.streams.profiles.columns import NULL, NUMBERS, TEXTS, Columns
from streamgauge.streams.profiles.kinds import (
    ACTION,
    ACTIONS_READ,
    CONTENT_OF,
    COUNTED_AS,
    DEVICE,
    DEVICE_COUNT,
    GENRE_OF,
    POINTS_OF,
    STATUS,
    STATUS_COUNT,
    TYPE,
    TYPE_COUNT,
    TYPES_READ,
    places_of,
)
from streamgauge.streams.profiles.rows import (
    COUNT,
    DAY_MS,
    EPOCH_DAYS,
    FADING,
    ROW,
    SUM,
    WINDOW,
)
from streamgauge.streams.profiles.tags import Names, gathered

Array = np.ndarray

COLUMNS = frozenset({"user_id", "anonymous_id", *TEXTS, *NUMBERS}) - {"event_type"}
"""What is read of events, beside what every frame of events has."""

LONGEST_NAME = 64
LARGEST = 1e9
"""Larger numbers are no observations."""
MILLION = 1_000_000.0

_WORDS, _COUNTS = ROW.itemsize // 4, profile.span("counts", "counts", 4).start
"""In words of 4 bytes: a row, and where its counts begin."""


@dataclass(frozen=True, kw_only=True)
class Digest:
    """Profiles of a batch by round and user; `tags` by place in them, as `tags.py` has them."""

    round: Array
    key: Array
    offset: Array
    """Of the first of the events."""
    user_key: pl.Series
    rows: Array
    tags: Run

    def part(self, number: int) -> Digest:
        """Those of one round."""
        low, high = np.searchsorted(self.round, [number, number + 1])
        if high - low == len(self.round):
            return self
        bounds = np.array([low, high], np.uint64) << np.uint64(32)
        first, last = np.searchsorted(self.tags.key, bounds)
        tags = self.tags.take(np.arange(first, last))
        return Digest(
            round=self.round[low:high],
            key=self.key[low:high],
            offset=self.offset[low:high],
            user_key=self.user_key[low:high],
            rows=self.rows[low:high],
            tags=Run(key=tags.key - bounds[0], columns=tags.columns),
        )

    def parts(self) -> Iterator[Digest]:
        """One after the other."""
        for number in self.round[firsts(self.round)].tolist():
            yield self.part(number)


def keys(frame: pl.DataFrame) -> Array:
    """Of each event: the key of its user in its partition."""
    return combine(of_strings(frame["user_key"]), frame["partition"].to_numpy())


def of_events(frame: pl.DataFrame, names: Names, rounds: Array | None = None) -> Digest:
    """What a batch of events says of its users, in each of its rounds (none: in slices of 32 days,
    so that each fits into a mask of days)."""
    columns = Columns.of(frame)
    timestamp, partition = columns["timestamp"], columns["partition"]
    day = timestamp // DAY_MS
    if rounds is None:
        rounds = (day - day.min(initial=0)) // (WINDOW // 2) if frame.height else day
    key = combine(columns["user_key"], partition)
    order = ordering(key)
    if rounds.any():
        order = order[np.argsort(rounds[order], kind="stable")]
    ordered = key[order]
    first = firsts(ordered)
    first[1:] |= rounds[order][1:] != rounds[order][:-1]
    starts = first.nonzero()[0]
    begins = order[starts]
    owner = np.empty(len(key), np.int64)
    owner[order] = first.cumsum() - 1
    events = _Events(columns, owner, day, len(starts), names)
    rows, offset = events.rows, starts
    if len(starts):
        offset = np.minimum.reduceat(columns["offset"][order], starts)
        times = timestamp[order]
        rows["first_seen"] = np.minimum.reduceat(times, starts)
        rows["last_seen"] = np.maximum.reduceat(times, starts)
        rows["partition"] = partition[begins]
        events.read(order, starts)
    return Digest(
        round=rounds[begins],
        key=ordered[starts],
        offset=offset,
        user_key=frame["user_key"][begins],
        rows=rows,
        tags=events.tags(),
    )


class _Events:
    """Columns of a batch, added up by owner: the place of the user's row in it."""

    def __init__(
        self, columns: Columns, owner: Array, day: Array, count: int, names: Names
    ) -> None:
        self._columns, self._owner, self._day, self._names = columns, owner, day, names
        self._weight, self._period = profile.weight(day), day // EPOCH_DAYS
        self.rows = profile.empty(count)
        self._sums = np.zeros(count * len(SUM), np.int64)
        self._fading = np.zeros((2, count * len(FADING)), np.int64)
        self._tags: list[tuple[Array, Array, Array, Array]] = []

    def read(self, order: Array, starts: Array) -> None:
        """`order` has the events of one owner after those of another, from `starts` on."""
        columns, owner, rows = self._columns, self._owner, self.rows
        self._days(order, starts)
        hour = columns["timestamp"] // 3_600_000 % 24
        self._hours("hours", owner, hour)
        kind = TYPE.of(columns["event_type"])
        self._count(owner, TYPE_COUNT[kind])
        action = np.where(columns["action"] == NULL, 0, ACTION.of(columns["action"]))
        meaning = COUNTED_AS[kind, action]
        counted = (meaning >= 0).nonzero()[0]
        self._count(owner[counted], meaning[counted])
        everything = np.arange(len(owner))
        self._fade("activity", everything, POINTS_OF[kind, action])
        self._devices()
        self._country()
        self._playback(kind, action, hour)
        self._learning(kind, action)
        self._tasks(kind, action)
        self._rest(kind, action)
        self._affinities(kind, action)
        self._per_day(everything, "events")
        rows["sums"] = self._sums.reshape(-1, len(SUM))
        rows["now"], rows["then"] = (sums.reshape(-1, len(FADING)) for sums in self._fading)

    def tags(self) -> Run:
        parts = self._tags or [(np.zeros(0, np.int64),) * 4]
        owner, code, epoch, value = (np.concatenate(part) for part in zip(*parts, strict=True))
        return gathered(owner, code, epoch, value)

    def _numbers(self, column: str, some: Array) -> Array:
        return self._columns[column][some]

    def _count(self, owner: Array, column: Array | int) -> None:
        at = owner * _WORDS + (_COUNTS + column)
        np.add.at(self.rows.view(np.uint32), at, np.uint32(1))

    def _add(self, name: str, some: Array, values: Array) -> None:
        np.add.at(self._sums, self._owner[some] * len(SUM) + SUM[name], values.astype(np.int64))

    def _hours(self, name: str, owner: Array, hour: Array) -> None:
        counts = np.zeros(len(self.rows) * 24, np.uint32)
        np.add.at(counts, owner * 24 + hour, np.uint32(1))
        self.rows[name] = np.minimum(counts, 65_535).reshape(-1, 24)

    def _days(self, order: Array, starts: Array) -> None:
        last = np.maximum.reduceat(self._day[order], starts)
        self._epoch = last // EPOCH_DAYS
        age = last[self._owner] - self._day
        bits = np.left_shift(np.uint64(1), np.minimum(age, WINDOW - 1).astype(np.uint64))
        bits[age >= WINDOW] = 0
        self.rows["last_day"], self.rows["epoch"] = last, self._epoch
        self.rows["mask"] = np.bitwise_or.reduceat(bits[order], starts)

    def _fade(self, name: str, some: Array, points: Array) -> None:
        owner = self._owner[some]
        added = points * self._weight[some]
        behind = self._epoch[owner] - self._period[some]
        at = owner * len(FADING) + FADING[name]
        if not behind.any():
            np.add.at(self._fading[0], at, added)
            return
        for epoch in (0, 1):
            np.add.at(self._fading[epoch], at, np.where(behind == epoch, added, 0))

    def _tag(self, some: Array, code: Array, value: Array, *, fades: bool = False) -> None:
        epoch = self._period[some] if fades else np.zeros(len(some), np.int64)
        weighed = value * self._weight[some] if fades else value
        self._tags.append((self._owner[some], code, epoch, weighed))

    def _per_day(self, some: Array, what: str) -> None:
        """One more of it on each one's day."""
        self._tag(some, self._names.of_days(what, self._day[some]), np.ones(len(some), np.int64))

    def _named(self, kind: str, some: Array, *columns: str) -> Array:
        """Codes of what these columns say together."""
        hashes = self._columns[columns[0]][some]
        for column in columns[1:]:
            hashes = combine(hashes, self._columns[column][some])

        def told(places: Array) -> Iterable[str]:
            for parts in self._columns.texts(columns, some[places]):
                yield f"{kind}:" + "|".join((text or "")[:LONGEST_NAME] for text in parts)

        return self._names.known(kind, hashes, told)

    def _devices(self) -> None:
        device = DEVICE.of(self._columns["device_type"])
        some = (device >= 0).nonzero()[0]
        if not len(some):
            return
        self._count(self._owner[some], DEVICE_COUNT[device[some]])
        ones = np.ones(len(some), np.int64)
        code = self._named("device", some, "device_type", "screen_size", "connection_speed")
        self._tag(some, code, ones)
        shown = some[self._columns["quality"][some] != NULL]
        if len(shown):
            code = self._named("quality", shown, "device_type", "quality")
            self._tag(shown, code, ones[: len(shown)])

    def _country(self) -> None:
        some = self._columns.said("country")
        if not len(some):
            return
        code = self._named("country", some, "country")
        owner, when = self._owner[some], self._columns["timestamp"][some]
        rank = self._names.rank(code)
        time_and_name = when * (rank.max() + 1) + rank
        order = ordering_by(owner.view(np.uint64), time_and_name)
        last = order[np.append(firsts(owner[order])[1:], True)]
        self.rows["country"][owner[last]] = code[last]
        self.rows["country_at"][owner[last]] = when[last]

    def _playback(self, kind: Array, action: Array, hour: Array) -> None:
        mine = (kind == TYPES_READ.index("playback")).nonzero()[0]
        if not len(mine):
            return
        self._hours("watch_hours", self._owner[mine], hour[mine])
        did = action[mine]
        completed = did == ACTIONS_READ.index("complete")
        ends = completed | (did == ACTIONS_READ.index("skip"))
        ended, complete = mine[ends], completed[ends]
        position = self._numbers("position_ms", ended)
        whole = self._numbers("duration_ms", ended)
        watched = np.where(np.isnan(position) & complete, whole, position)
        good = watched <= LARGEST * 1000
        self._add("watched_ms", ended[good], np.rint(watched[good]))

    def _learning(self, kind: Array, action: Array) -> None:
        some = (kind == TYPES_READ.index("learning_session")).nonzero()[0]
        if len(some):
            done = self._numbers("completion_rate", some)
            rated = ~np.isnan(done)
            self._count(self._owner[some[rated]], COUNT["learning_rated"])
            self._add("completion", some[rated], np.rint(done[rated] * MILLION))
            points = np.rint(np.where(rated, done, 1.0) * 1000).astype(np.int64)
            self._fade("learning", some, points)
            took = self._numbers("duration", some)
            good = took <= LARGEST
            self._add("learning_time", some[good], np.rint(took[good] * MILLION))
        finished = places_of(kind, action, "course_interaction", "complete")
        self._fade("learning", finished, np.full(len(finished), 1000))
        some = (kind == TYPES_READ.index("quiz_attempt")).nonzero()[0]
        if len(some):
            score, total = self._numbers("score", some), self._numbers("total_questions", some)
            share = np.divide(score, total, out=score.copy(), where=total > 0)
            good = np.abs(share) <= LARGEST
            some, share = some[good], share[good]
            self._count(self._owner[some], COUNT["quizzes_scored"])
            self._add("quiz_score", some, np.rint(share * MILLION))
            self._fade("quizzes", some, np.ones(len(some), np.int64))
            self._fade("quiz_points", some, np.rint(np.clip(share, 0, 1) * 1000).astype(np.int64))

    def _tasks(self, kind: Array, action: Array) -> None:
        some = (kind == TYPES_READ.index("task_update")).nonzero()[0]
        if not len(some):
            return
        status = STATUS.of(self._columns["task_status"][some])
        self._count(self._owner[some[status >= 0]], STATUS_COUNT[status[status >= 0]])
        for what in ("created", "completed"):
            these = some[action[some] == ACTIONS_READ.index(what)]
            self._per_day(these, what)
            said = these[self._columns["priority"][these] != NULL]
            if len(said):
                ones = np.ones(len(said), np.int64)
                self._tag(said, self._named(what, said, "priority"), ones)
        due = self._numbers("due_date", these)
        overdue = these[self._columns["timestamp"][these] > due]
        self._count(self._owner[overdue], COUNT["tasks_overdue"])

    def _rest(self, kind: Array, action: Array) -> None:
        some = (kind == TYPES_READ.index("search")).nonzero()[0]
        nothing = some[self._numbers("results_count", some) == 0]
        self._count(self._owner[nothing], COUNT["zero_result_searches"])
        some = (kind == TYPES_READ.index("rating")).nonzero()[0]
        score = self._numbers("score", some)
        good = np.abs(score) <= LARGEST
        self._add("feedback", some[good], np.rint(score[good] * MILLION))
        self._count(self._owner[some[good]], COUNT["ratings_scored"])
        some = (~np.isnan(self._columns["exploration"])).nonzero()[0]
        which = kind[some]
        feed = (which == TYPES_READ.index("feed_view")) | (which == TYPES_READ.index("feed_click"))
        play = (which == TYPES_READ.index("playback")) & (
            action[some] == ACTIONS_READ.index("start")
        )
        some = some[feed | play]
        explored = some[self._numbers("exploration", some) == 1.0]
        self._count(self._owner[some], COUNT["exploration_said"])
        self._count(self._owner[explored], COUNT["explored"])

    def _affinities(self, kind: Array, action: Array) -> None:
        for name, column, grid in (
            ("genre", "genre", GENRE_OF),
            ("type", "content_type", CONTENT_OF),
        ):
            some = self._columns.said(column)
            points = grid[kind[some], action[some]]
            some, points = some[points > 0], points[points > 0]
            if not len(some):
                continue
            code = self._named(name, some, column)
            self._tag(some, code, points, fades=True)
            if name == "genre":
                self._genre_days(some, code)

    def _genre_days(self, some: Array, code: Array) -> None:
        day = self._day[some]

        def told(places: Array) -> Iterable[str]:
            pairs = zip(day[places].tolist(), code[places].tolist(), strict=True)
            return (f"day:{one}:{self._names.texts[genre]}" for one, genre in pairs)

        codes = self._names.known("day:genre", day << 32 | code, told)
        self._tag(some, codes, np.ones(len(some), np.int64))
