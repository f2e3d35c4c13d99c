"""A batch of events as profiles: what each user did in each round of it.

A profile of some events adds to that of others (`rows.py`), so a batch is read once, column by
column, and each round is a slice of what came of it.

Upstream: accepted events of users who may be known. Downstream: `profiles.py`. Invariants: which
events are in a batch, and in which order, does not matter to the sums.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from streamgauge.streams.metrics.keys import combine, firsts, of_strings
from streamgauge.streams.metrics.runs import Run
from streamgauge.streams.profiles import rows as profile
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
from streamgauge.streams.profiles.rows import COUNT, DAY_MS, EPOCH_DAYS, FADING, SUM, WINDOW
from streamgauge.streams.profiles.tags import Names, gathered

Array = np.ndarray

COLUMNS = frozenset(
    {"user_id", "anonymous_id", "action", "device_type", "country", "genre", "content_type"}
    | {"screen_size", "connection_speed", "quality", "task_status", "priority", "due_date"}
    | {"score", "total_questions", "completion_rate", "duration", "results_count"}
    | {"position_ms", "duration_ms", "exploration"}
)
"""What is read of events, beside what every frame of events has."""

LONGEST_NAME = 64
LARGEST = 1e9
"""Larger numbers are no observations."""
MILLION = 1_000_000.0


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
        for number in np.unique(self.round).tolist():
            yield self.part(number)


def keys(frame: pl.DataFrame) -> Array:
    """Of each event: the key of its user in its partition."""
    return combine(of_strings(frame["user_key"]), frame["partition"].to_numpy())


def of_events(frame: pl.DataFrame, names: Names, rounds: Array | None = None) -> Digest:
    """What a batch of events says of its users, in each of its rounds (none: in slices of 32 days,
    so that each fits into a mask of days)."""
    timestamp = frame["timestamp"].to_numpy()
    day = timestamp // DAY_MS
    if rounds is None:
        rounds = (day - day.min(initial=0)) // (WINDOW // 2) if frame.height else day
    key = keys(frame)
    order = np.lexsort((key, rounds)) if rounds.any() else np.argsort(key, kind="stable")
    first = firsts(key[order])
    first[1:] |= rounds[order][1:] != rounds[order][:-1]
    starts = first.nonzero()[0]
    owner = np.empty(len(key), np.int64)
    owner[order] = first.cumsum() - 1
    events = _Events(frame, owner, day, len(starts), names)
    rows, offset = events.rows, starts
    if len(starts):
        offset = np.minimum.reduceat(frame["offset"].to_numpy()[order], starts)
        times = timestamp[order]
        rows["first_seen"] = np.minimum.reduceat(times, starts)
        rows["last_seen"] = np.maximum.reduceat(times, starts)
        rows["partition"] = frame["partition"].to_numpy()[order[starts]]
        events.read(timestamp)
    return Digest(
        round=rounds[order[starts]],
        key=key[order[starts]],
        offset=offset,
        user_key=frame["user_key"].gather(order[starts]),
        rows=rows,
        tags=events.tags(),
    )


class _Events:
    """Columns of a batch, added up by owner: the place of the user's row in it."""

    def __init__(
        self, frame: pl.DataFrame, owner: Array, day: Array, count: int, names: Names
    ) -> None:
        self._frame, self._owner, self._day, self._names = frame, owner, day, names
        self.rows = profile.empty(count)
        self._places: list[Array] = []
        self._sums = np.zeros(count * len(SUM), np.int64)
        self._fading = np.zeros((2, count * len(FADING)), np.int64)
        self._tags: list[tuple[Array, Array, Array, Array]] = []

    def read(self, timestamp: Array) -> None:
        frame, owner, rows = self._frame, self._owner, self.rows
        self._days()
        hour = timestamp // 3_600_000 % 24
        self._hours("hours", owner, hour)
        kind = TYPE(frame["event_type"])
        kind = np.where(kind < 0, len(TYPES_READ) - 1, kind)
        self._count(owner, TYPE_COUNT[kind])
        action = np.zeros(len(owner), np.int64)
        some = self._said("action")
        found = ACTION(frame["action"].gather(some)) if len(some) else some
        action[some] = np.where(found < 0, ACTIONS_READ.index("progress"), found)
        counted = COUNTED_AS[kind, action]
        self._count(owner[counted >= 0], counted[counted >= 0])
        self._fade("activity", np.arange(len(owner)), POINTS_OF[kind, action])
        self._devices()
        self._country(timestamp)
        self._playback(kind, action, hour)
        self._learning(kind, action)
        self._tasks(kind, action, timestamp)
        self._rest(kind, action)
        self._affinities(kind, action)
        self._per_day(np.arange(len(owner)), "events")
        width = len(COUNT)
        flat = np.concatenate(self._places)
        rows["counts"] = np.bincount(flat, minlength=len(rows) * width).reshape(-1, width)
        rows["sums"] = self._sums.reshape(-1, len(SUM))
        rows["now"], rows["then"] = (sums.reshape(-1, len(FADING)) for sums in self._fading)

    def tags(self) -> Run:
        parts = self._tags or [(np.zeros(0, np.int64),) * 4]
        owner, code, epoch, value = (np.concatenate(part) for part in zip(*parts, strict=True))
        key = owner.astype(np.uint64) << np.uint64(32) | code.astype(np.uint64)
        return gathered(key, epoch, value)

    def _said(self, column: str) -> Array:
        """Places of the events that say it."""
        series = self._frame[column]
        if series.null_count() == len(series):
            return np.zeros(0, np.int64)
        return series.is_not_null().to_numpy().nonzero()[0]

    def _numbers(self, column: str, some: Array) -> Array:
        return self._frame[column].gather(some).cast(pl.Float64).fill_null(np.nan).to_numpy()

    def _count(self, owner: Array, column: Array | int) -> None:
        self._places.append(owner * len(COUNT) + column)

    def _add(self, name: str, some: Array, values: Array) -> None:
        np.add.at(self._sums, self._owner[some] * len(SUM) + SUM[name], values.astype(np.int64))

    def _hours(self, name: str, owner: Array, hour: Array) -> None:
        flat = np.bincount(owner * 24 + hour, minlength=len(self.rows) * 24)
        self.rows[name] = np.minimum(flat, 65_535).reshape(-1, 24)

    def _days(self) -> None:
        last = np.full(len(self.rows), -1)
        np.maximum.at(last, self._owner, self._day)
        self._epoch = last // EPOCH_DAYS
        age = last[self._owner] - self._day
        mask = np.zeros(len(last), np.uint64)
        bits = np.left_shift(np.uint64(1), np.minimum(age, WINDOW - 1).astype(np.uint64))
        np.bitwise_or.at(mask, self._owner, np.where(age < WINDOW, bits, np.uint64(0)))
        self.rows["last_day"], self.rows["epoch"], self.rows["mask"] = last, self._epoch, mask

    def _fade(self, name: str, some: Array, points: Array) -> None:
        owner, day = self._owner[some], self._day[some]
        added = points * profile.weight(day)
        behind = self._epoch[owner] - day // EPOCH_DAYS
        at = owner * len(FADING) + FADING[name]
        for epoch in (0, 1):
            np.add.at(self._fading[epoch], at, np.where(behind == epoch, added, 0))

    def _tag(self, some: Array, code: Array, value: Array, *, fades: bool = False) -> None:
        day = self._day[some]
        epoch = day // EPOCH_DAYS if fades else np.zeros(len(some), np.int64)
        weighed = value * profile.weight(day) if fades else value
        self._tags.append((self._owner[some], code, epoch, weighed))

    def _per_day(self, some: Array, what: str) -> None:
        """One more of it on each one's day."""
        days, which = np.unique(self._day[some], return_inverse=True)
        codes = self._names.codes(f"day:{day}:{what}" for day in days.tolist())
        self._tag(some, codes[which], np.ones(len(some), np.int64))

    def _named(self, kind: str, some: Array, *columns: str) -> Array:
        """Codes of what these columns say together."""
        series = [self._frame[column].gather(some) for column in columns]
        hashes = of_strings(series[0])
        for one in series[1:]:
            hashes = combine(hashes, of_strings(one))
        _, first, which = np.unique(hashes, return_index=True, return_inverse=True)
        texts = zip(*(one.gather(first).to_list() for one in series), strict=True)
        told = ("|".join((text or "")[:LONGEST_NAME] for text in parts) for parts in texts)
        return self._names.codes(f"{kind}:{text}" for text in told)[which]

    def _devices(self) -> None:
        some = self._said("device_type")
        if not len(some):
            return
        device = DEVICE(self._frame["device_type"].gather(some))
        some, device = some[device >= 0], device[device >= 0]
        self._count(self._owner[some], DEVICE_COUNT[device])
        ones = np.ones(len(some), np.int64)
        code = self._named("device", some, "device_type", "screen_size", "connection_speed")
        self._tag(some, code, ones)
        shown = np.intersect1d(some, self._said("quality"), assume_unique=True)
        if len(shown):
            code = self._named("quality", shown, "device_type", "quality")
            self._tag(shown, code, ones[: len(shown)])

    def _country(self, timestamp: Array) -> None:
        some = self._said("country")
        if not len(some):
            return
        code = self._named("country", some, "country")
        known, which = np.unique(code, return_inverse=True)
        texts = np.array([self._names.texts[one] for one in known.tolist()])
        rank = np.argsort(np.argsort(texts))[which]
        owner = self._owner[some]
        order = np.lexsort((rank, timestamp[some], owner))
        last = order[np.append(firsts(owner[order])[1:], True)]
        self.rows["country"][owner[last]] = code[last]
        self.rows["country_at"][owner[last]] = timestamp[some][last]

    def _playback(self, kind: Array, action: Array, hour: Array) -> None:
        mine = kind == TYPES_READ.index("playback")
        if not mine.any():
            return
        self._hours("watch_hours", self._owner[mine], hour[mine])
        ended = (
            mine & np.isin(action, [ACTIONS_READ.index("complete"), ACTIONS_READ.index("skip")])
        ).nonzero()[0]
        position = self._numbers("position_ms", ended)
        whole = self._numbers("duration_ms", ended)
        complete = action[ended] == ACTIONS_READ.index("complete")
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

    def _tasks(self, kind: Array, action: Array, timestamp: Array) -> None:
        some = (kind == TYPES_READ.index("task_update")).nonzero()[0]
        if not len(some):
            return
        status = STATUS(self._frame["task_status"].gather(some))
        self._count(self._owner[some[status >= 0]], STATUS_COUNT[status[status >= 0]])
        for what in ("created", "completed"):
            these = places_of(kind, action, "task_update", what)
            self._per_day(these, what)
            said = np.intersect1d(these, self._said("priority"), assume_unique=True)
            if len(said):
                ones = np.ones(len(said), np.int64)
                self._tag(said, self._named(what, said, "priority"), ones)
        due = self._numbers("due_date", these)
        self._count(self._owner[these[timestamp[these] > due]], COUNT["tasks_overdue"])

    def _rest(self, kind: Array, action: Array) -> None:
        some = (kind == TYPES_READ.index("search")).nonzero()[0]
        nothing = some[self._numbers("results_count", some) == 0]
        self._count(self._owner[nothing], COUNT["zero_result_searches"])
        some = (kind == TYPES_READ.index("rating")).nonzero()[0]
        score = self._numbers("score", some)
        good = np.abs(score) <= LARGEST
        self._add("feedback", some[good], np.rint(score[good] * MILLION))
        self._count(self._owner[some[good]], COUNT["ratings_scored"])
        some = self._said("exploration")
        feed = np.isin(kind[some], [TYPES_READ.index("feed_view"), TYPES_READ.index("feed_click")])
        play = (kind[some] == TYPES_READ.index("playback")) & (
            action[some] == ACTIONS_READ.index("start")
        )
        some = some[feed | play]
        explored = self._frame["exploration"].gather(some).to_numpy().astype(bool)
        self._count(self._owner[some], COUNT["exploration_said"])
        self._count(self._owner[some[explored]], COUNT["explored"])

    def _affinities(self, kind: Array, action: Array) -> None:
        for name, column, grid in (
            ("genre", "genre", GENRE_OF),
            ("type", "content_type", CONTENT_OF),
        ):
            some = self._said(column)
            points = grid[kind[some], action[some]]
            some, points = some[points > 0], points[points > 0]
            if not len(some):
                continue
            code = self._named(name, some, column)
            self._tag(some, code, points, fades=True)
            if name == "genre":
                pairs, which = np.unique(self._day[some] << 32 | code, return_inverse=True)
                texts = (
                    f"day:{pair >> 32}:{self._names.texts[pair & 0xFFFFFFFF]}"
                    for pair in pairs.tolist()
                )
                self._tag(some, self._names.codes(texts)[which], np.ones(len(some), np.int64))
