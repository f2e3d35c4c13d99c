"""What follows from profiles, as of a moment: scores, preferences, recency.

The formulas are in docs/profiles.md. What fades is taken as of the whole UTC day of the moment;
only `hours_since_last`, `days_since_first` and `days_since_last` look at its hour.

Upstream: `profiles.py`. Downstream: segments (`columns`), `parts.py`. Invariant: nothing but the
profile and the moment decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from streamgauge.schemas.profile_fields import PROFILE_FIELDS
from streamgauge.schemas.profile_records import DEVICES, TYPES
from streamgauge.streams.metrics.keys import firsts
from streamgauge.streams.profiles import rows as profile
from streamgauge.streams.profiles.profiles import Selection
from streamgauge.streams.profiles.rows import COUNT, DAY_MS, EPOCH_DAYS, FADING, SUM
from streamgauge.streams.profiles.tags import KINDS, Names, code_of

Array = np.ndarray

HOUR_MS = 3_600_000
MILLION = 1_000_000

HALF_ACTIVITY = 60.0
"""The activity at which its part of the engagement score is half of what it can be."""
DAYS_SUM = sum(2 ** (-age / 8) for age in range(1024))
"""What a point a day adds up to."""
GONE_DAYS = 14.0
"""Days of absence after which recency says all it can."""

_GENRE, _CONTENT = KINDS.index("genre"), KINDS.index("type")
_TYPES = [COUNT[name] for name in (*TYPES.values(), "other_events")]
_DEVICES = [COUNT[f"{device}_events"] for device in DEVICES]
_DEVICE_NAMES = pl.Series([*DEVICES, None], dtype=pl.String)


@dataclass(frozen=True)
class Figures:
    """Profiles, seen at moments (ms, one each)."""

    selection: Selection
    at: Array
    names: Names

    def count(self, name: str) -> Array:
        return self.rows["counts"][:, COUNT[name]].astype(np.int64)

    def total(self, name: str) -> Array:
        return self.rows["sums"][:, SUM[name]]

    @property
    def rows(self) -> Array:
        return self.selection.rows

    @cached_property
    def day(self) -> Array:
        return self.at // DAY_MS

    @cached_property
    def age(self) -> Array:
        """Whole days since the last day with an event."""
        return np.maximum(self.day - self.rows["last_day"], 0)

    @cached_property
    def events(self) -> Array:
        return self.rows["counts"][:, _TYPES].sum(axis=1, dtype=np.int64)

    def active(self, days: int) -> Array:
        """Days with an event among the last ones."""
        shift = np.minimum(self.age, 63).astype(np.uint64)
        window = np.uint64(2**days - 1)
        recent = np.where(self.age < days, window >> shift, np.uint64(0))
        return np.bitwise_count(self.rows["mask"] & recent).astype(np.int64)

    @property
    def active_days(self) -> Array:
        return self.rows["days_before"] + np.bitwise_count(self.rows["mask"]).astype(np.int64)

    @property
    def streak(self) -> Array:
        run = profile.streak(self.rows["mask"]).astype(np.int64)
        run += np.where(run == profile.WINDOW, self.rows["run_before"], 0)
        return np.where(self.age <= 1, run, 0)

    def faded(self, name: str) -> Array:
        at = FADING[name]
        rows = self.rows
        day = np.maximum(self.day, rows["last_day"])
        return profile.faded(rows["now"][:, at], rows["then"][:, at], rows["epoch"], day)

    @property
    def engagement_score(self) -> Array:
        activity = self.faded("activity")
        return 70.0 * activity / (activity + HALF_ACTIVITY) + 30.0 * self.active(28) / 28.0

    @cached_property
    def is_learner(self) -> Array:
        names = ("learning_sessions", "quiz_attempts", "course_interactions")
        return np.any([self.count(name) > 0 for name in names], axis=0)

    @property
    def learning_velocity(self) -> Array:
        return np.where(self.is_learner, self.faded("learning") / 1000.0 / DAYS_SUM, np.nan)

    @property
    def dropout_risk(self) -> Array:
        recency = np.minimum(self.age / GONE_DAYS, 1.0)
        quizzes, points = self.faded("quizzes"), self.faded("quiz_points") / 1000.0
        score = np.divide(points, quizzes, out=np.zeros(len(points)), where=quizzes > 0)
        rated = self.count("learning_rated")
        done = self._mean("completion", "learning_rated")
        parts = (quizzes > 0).astype(float) + (rated > 0)
        good = np.where(quizzes > 0, score, 0.0) + np.where(rated > 0, done, 0.0)
        good = np.divide(good, parts, out=np.full(len(parts), 0.5), where=parts > 0)
        week = self.active(7)
        usual = (self.active(28) - week) / 3.0
        falling = np.divide(usual - week, usual, out=np.zeros(len(usual)), where=usual > 0)
        risk = 0.5 * recency + 0.3 * (1.0 - good) + 0.2 * np.maximum(falling, 0.0)
        return np.where(self.is_learner, risk, np.nan)

    def _mean(self, name: str, counted: str, scale: float = float(MILLION)) -> Array:
        count = self.count(counted)
        none = np.full(len(count), np.nan)
        return np.divide(self.total(name) / scale, count, out=none, where=count > 0)

    @property
    def avg_session_seconds(self) -> Array:
        return self._mean("session_ms", "sessions", 1000.0)

    @property
    def avg_quiz_score(self) -> Array:
        return self._mean("quiz_score", "quizzes_scored")

    @property
    def avg_completion(self) -> Array:
        return self._mean("completion", "learning_rated")

    @property
    def exploration_share(self) -> Array:
        said = self.count("exploration_said")
        none = np.full(len(said), np.nan)
        return np.divide(self.count("explored"), said, out=none, where=said > 0)

    @property
    def device(self) -> pl.Series:
        counts = self.rows["counts"][:, _DEVICES]
        best = np.where(counts.any(axis=1), counts.argmax(axis=1), len(DEVICES))
        return _DEVICE_NAMES[best]

    @property
    def mobile_share(self) -> Array:
        said = self.rows["counts"][:, _DEVICES].sum(axis=1, dtype=np.int64)
        none = np.full(len(said), np.nan)
        return np.divide(self.count("mobile_events"), said, out=none, where=said > 0)

    @property
    def country(self) -> pl.Series:
        return self.names.said(self.rows["country"])

    def busiest(self, *names: str, most: int = 3) -> list[pl.Series]:
        """Of each of these counts by hour: the hours with the highest, as lists."""
        places, hours = [], []
        for number, name in enumerate(names):
            some = np.flatnonzero(self.rows[name].any(axis=1))
            # Count and hour in one number, the earlier hour the larger; hour by hour in memory.
            ranks = self.rows[name].T.take(some, axis=1).astype(np.uint32) << 5
            ranks |= np.arange(23, -1, -1, dtype=np.uint32)[:, None]
            best = np.empty((len(some), most), np.uint32)
            for nth in range(most):
                best[:, nth] = highest = ranks.max(axis=0)
                ranks *= ranks != highest
            taken = best >= 1 << 5
            places.append(some[taken.nonzero()[0]] + number * len(self.rows))
            hours.append(23 - (best[taken] & 31).astype(np.int64))
        return self._apart(np.concatenate(places), pl.Series(np.concatenate(hours)), len(names))

    def ranked(self, kind: str) -> tuple[Array, Array]:
        """Places and codes of a kind of affinities, each user's strongest first."""
        kinds, place, codes = self._affinities
        mine = kinds == KINDS.index(kind)
        return place[mine], codes[mine]

    @cached_property
    def _affinities(self) -> tuple[Array, Array, Array]:
        """Kinds, places and codes of all of them."""
        codes = code_of(self.selection.tags.key)
        kinds = self.names.kind(codes)
        mine = ((kinds == _GENRE) | (kinds == _CONTENT)).nonzero()[0]
        kinds, place, codes = kinds[mine], self.selection.place[mine], codes[mine]
        epoch, now, then = (column[mine] for column in self.selection.tags.columns)
        steps = (epoch - self.rows["epoch"][place]) * (EPOCH_DAYS // 8)
        strength = np.ldexp(now + then / 65_536.0, steps)
        order = np.lexsort((self.names.rank(codes), -strength, place))
        return kinds[order], place[order], codes[order]

    def top(self, *kinds: str, most: int = 5) -> list[pl.Series]:
        """Of each kind: the names of the strongest affinities, as lists."""
        places, best = [], []
        for number, kind in enumerate(kinds):
            place, codes = self.ranked(kind)
            starts = firsts(place).nonzero()[0]
            nth = np.arange(len(place)) - np.repeat(starts, np.diff(np.append(starts, len(place))))
            some = (nth < most).nonzero()[0]
            places.append(place[some] + number * len(self.rows))
            best.append(codes[some])
        return self._apart(
            np.concatenate(places), self.names.said(np.concatenate(best)), len(kinds)
        )

    def _apart(self, place: Array, values: pl.Series, parts: int) -> list[pl.Series]:
        """So many columns of lists, made as one: most of what a list costs is to begin with it."""
        count = len(self.rows)
        lists = listed(place, values, parts * count)
        return [lists.slice(number * count, count) for number in range(parts)]


def listed(place: Array, values: pl.Series, count: int) -> pl.Series:
    """Values (sorted by place) as one list for each place, empty where there is none."""
    flat = pl.DataFrame({"place": pl.Series(place).set_sorted(), "value": values})
    lists = flat.group_by("place", maintain_order=True).agg("value")["value"]
    starts = firsts(place).nonzero()[0]
    if len(starts) == count:
        return lists
    at = np.full(count, len(starts))
    at[place[starts]] = np.arange(len(starts))
    lists.append(pl.Series([[]], dtype=lists.dtype))
    return lists.rechunk()[at]  # of one piece in a fifth of the time


def _first_genre(of: Figures) -> pl.Series:
    place, codes = of.ranked("genre")
    found = np.zeros(len(of.rows), np.int64)
    first = firsts(place)
    found[place[first]] = codes[first]
    return of.names.said(found)


_COLUMNS: Mapping[str, Callable[[Figures], Any]] = {
    "days_since_first": lambda of: (of.at - of.rows["first_seen"]) // DAY_MS,
    "hours_since_last": lambda of: (of.at - of.rows["last_seen"]) // HOUR_MS,
    "days_since_last": lambda of: (of.at - of.rows["last_seen"]) // DAY_MS,
    "events": lambda of: of.events,
    "page_views": lambda of: of.count("page_views"),
    "searches": lambda of: of.count("searches"),
    "plays": lambda of: of.count("plays"),
    "quiz_attempts": lambda of: of.count("quiz_attempts"),
    "active_days": lambda of: of.active_days,
    "active_days_7": lambda of: of.active(7),
    "active_days_28": lambda of: of.active(28),
    "streak_days": lambda of: of.streak,
    "sessions": lambda of: of.count("sessions"),
    "avg_session_minutes": lambda of: of.avg_session_seconds / 60.0,
    "binge_sessions": lambda of: of.count("binges"),
    "watch_hours": lambda of: of.total("watched_ms") / 3_600_000.0,
    "avg_quiz_score": lambda of: of.avg_quiz_score,
    "avg_completion": lambda of: of.avg_completion,
    "exploration_share": lambda of: of.exploration_share,
    "genres": lambda of: np.bincount(of.ranked("genre")[0], minlength=len(of.rows)),
    "engagement_score": lambda of: of.engagement_score,
    "learning_velocity": lambda of: of.learning_velocity,
    "dropout_risk": lambda of: of.dropout_risk,
    "device_type": lambda of: of.device,
    "mobile_share": lambda of: of.mobile_share,
    "top_genre": _first_genre,
    "country": lambda of: of.country,
}

OF_TAGS = frozenset({"genres", "top_genre"})
"""The fields for which tags must be selected."""

_DTYPES = {"int": pl.Int64, "float": pl.Float64, "string": pl.String, "bool": pl.Boolean}


def columns(
    selection: Selection, at: Array, names: Names, wanted: Iterable[str] = PROFILE_FIELDS
) -> pl.DataFrame:
    """Fields of `schemas/profile_fields.py`, a row a profile; what there is not is null."""
    of = Figures(selection, at, names)
    made = []
    for name in wanted:
        values = _COLUMNS[name](of)
        kind = _DTYPES[PROFILE_FIELDS[name].kind]
        made.append(pl.Series(name, values, dtype=kind, nan_to_null=kind is pl.Float64))
    return pl.DataFrame(made)
