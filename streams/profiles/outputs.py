"""Profiles as records, and records as profiles.

Upstream: `feed.py`. Downstream: the topics `user-profiles` and `daily-analytics`; a restart reads
the former. Invariant: `restored` of what `record` says is the profile, to the last bit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import polars as pl

from streamgauge.schemas.errors import SchemaError
from streamgauge.schemas.profile_columns import matrix, tag_sums
from streamgauge.schemas.profile_records import FIELDS, UserDay
from streamgauge.streams.metrics.keys import firsts, ordering_by
from streamgauge.streams.metrics.runs import Run
from streamgauge.streams.profiles import rows as profile
from streamgauge.streams.profiles.figures import Figures, listed
from streamgauge.streams.profiles.parts import Part
from streamgauge.streams.profiles.profiles import Selection
from streamgauge.streams.profiles.rows import COUNT, DAY_MS, SUM
from streamgauge.streams.profiles.tags import KINDS, PARTS, Names, code_of

Array = np.ndarray

_KEPT = {
    "state": profile.span("last_day", "then"),
    "sums": profile.span("sums", "sums"),
    "counts": profile.span("counts", "counts"),
}
"""Of a row, what a record has as bytes."""
_DAY = [field.name for field in dataclasses.fields(UserDay)]


def readable(selection: Selection, at: Array, names: Names) -> pl.DataFrame:
    """The fields for people, as of the day of `at`."""
    of, rows = Figures(selection, at, names), selection.rows
    made = _columns(
        {
            "computed_at": of.day * DAY_MS,
            "first_seen": rows["first_seen"],
            "last_seen": rows["last_seen"],
            "events": of.events,
            "active_days": of.active_days,
            "current_streak": of.streak,
            "active_days_7": of.active(7),
            "active_days_28": of.active(28),
            "days_since_last_seen": of.age,
            "sessions": of.count("sessions"),
        },
        np.int64,
    )
    made |= _columns(
        {
            "engagement_score": of.engagement_score,
            "learning_velocity": of.learning_velocity,
            "dropout_risk": of.dropout_risk,
            "avg_session_seconds": of.avg_session_seconds,
            "avg_quiz_score": of.avg_quiz_score,
            "avg_completion": of.avg_completion,
        },
        np.float64,
    )
    genres, types = of.top("genre", "type")
    hours, watched = of.busiest("hours", "watch_hours")
    made |= {
        "user_id": selection.users,
        "preferred_device": of.device,
        "preferred_genres": genres,
        "preferred_content_types": types,
        "preferred_hours": hours,
        "preferred_watch_hours": watched,
        "country": of.country,
    }
    return pl.DataFrame([made[name].alias(name) for name in FIELDS if name in made])


def _columns(arrays: Mapping[str, Array], dtype: type) -> dict[str, pl.Series]:
    """Columns of one type (NaN is null), cut from one: on a small batch it is their number that
    costs."""
    count = len(next(iter(arrays.values())))
    together: Array = np.concatenate(list(arrays.values()), dtype=dtype, casting="unsafe")
    column = pl.Series(together, nan_to_null=True)
    return {name: column.slice(place * count, count) for place, name in enumerate(arrays)}


def table(selection: Selection, at: Array, names: Names) -> pl.DataFrame:
    """The same with every count and sum."""
    rows = selection.rows
    return readable(selection, at, names).with_columns(
        *(pl.Series(name, rows["counts"][:, at].astype(np.int64)) for name, at in COUNT.items()),
        *(pl.Series(name, rows["sums"][:, at].copy()) for name, at in SUM.items()),
    )


def record(selection: Selection, at: Array, names: Names, offset: Array) -> pl.DataFrame:
    """All fields; `offset`: through which source offset the profiles are."""
    rows = selection.rows
    run, place = selection.tags, selection.place
    made = [
        *(_bytes(name, profile.raw(rows)[:, there]) for name, there in _KEPT.items()),
        listed(place, names.all(code_of(run.key)), len(rows)).alias("tags"),
        _tag_sums(run, place, len(rows)),
        pl.Series("emitted_offset", offset),
    ]
    return readable(selection, at, names).hstack(made)


def _bytes(name: str, values: Array) -> pl.Series:
    return pl.Series(name, np.ascontiguousarray(values)).cast(pl.List(pl.UInt8)).cast(pl.Binary)


def _tag_sums(run: Run, place: Array, count: int) -> pl.Series:
    text = np.stack([column.astype(np.int64) for column in run.columns], axis=1).tobytes()
    ends = (np.searchsorted(place, np.arange(count), side="right") * 24).tolist()
    parts = [text[first:last] for first, last in zip([0, *ends], ends, strict=False)]
    return pl.Series("tag_sums", parts, dtype=pl.Binary)


def restored(frame: pl.DataFrame, partition: int) -> Part:
    """The profiles of decoded records, of one partition."""
    if frame["state"].null_count():
        raise SchemaError(
            "user-profiles has records of an older version, from which this one cannot go on: "
            "read the events again under another --namespace"
        )
    rows = profile.empty(frame.height)
    rows["partition"] = partition
    for name in ("first_seen", "last_seen"):
        rows[name] = frame[name].to_numpy()
    rows["told"] = frame["computed_at"].to_numpy() // DAY_MS
    for name, there in _KEPT.items():
        profile.raw(rows)[:, there] = matrix(frame[name], there.stop - there.start, np.uint8)
    counts = frame["tags"].list.len().fill_null(0).to_numpy()
    texts, sums = frame["tags"].explode(empty_as_null=False), tag_sums(frame)
    known, codes = np.unique(texts.to_numpy(), return_inverse=True)
    country = [None if text is None else f"country:{text}" for text in frame["country"]]
    return Part(
        rows=rows,
        users=frame["user_id"],
        country=pl.Series(country, dtype=pl.String),
        texts=known.tolist(),
        owner=np.repeat(np.arange(frame.height), counts),
        codes=codes.astype(np.uint32),
        columns=(sums[:, 0].astype(np.int32), sums[:, 1].copy(), sums[:, 2].copy()),
    )


def days(selection: Selection, since: Array, names: Names) -> tuple[pl.DataFrame, Array]:
    """What the users did on each day from one on (by user); and whose each row is."""
    codes = code_of(selection.tags.key)
    day, place = names.day(codes), selection.place
    mine = (names.kind(codes) == KINDS.index("day")) & (day >= since[place])
    mine = mine.nonzero()[0]
    order = mine[ordering_by(place[mine].view(np.uint64), day[mine])]
    place, day, codes = place[order], day[order], codes[order]
    now = selection.tags.columns[1][order]
    first = firsts(place)
    first[1:] |= day[1:] != day[:-1]
    row, starts = first.cumsum() - 1, first.nonzero()[0]
    what = names.part(codes)
    totals = {
        name: np.bincount(row[mine], now[mine], len(starts)).astype(np.int64)
        for name, mine in ((name, (what == at).nonzero()[0]) for at, name in enumerate(PARTS))
    }
    liked = (what == len(PARTS)).nonzero()[0]
    genre = names.genre(codes[liked])
    by_name = np.lexsort((names.rank(genre), row[liked]))
    genres = listed(row[liked][by_name], names.said(genre[by_name]), len(starts))
    created, completed = totals["created"], totals["completed"]
    none = np.full(len(starts), np.nan)
    rate = np.divide(completed, created, out=none, where=created > 0)
    score = 70.0 * np.minimum(np.nan_to_num(rate), 1.0) + 6.0 * np.minimum(completed, 5)
    owner = place[starts]
    whole = {
        "date": day[starts] * DAY_MS,
        "events": totals["events"],
        "sessions": totals["sessions"],
        "tasks_created": created,
        "tasks_completed": completed,
    }
    real = {
        "minutes": totals["ms"] / 60_000.0,
        "completion_rate": rate,
        "productivity_score": score,
    }
    made = {
        "user_id": selection.users[owner],
        "genres": genres,
        **_columns(whole, np.int64),
        **_columns(real, np.float64),
    }
    frame = pl.DataFrame([made[name].alias(name) for name in _DAY])
    return frame, owner


def day_keys(table: pl.DataFrame) -> list[bytes]:
    """Keys of the records of days."""
    day = (pl.col("date") // DAY_MS).cast(pl.String)
    both = pl.concat_str("user_id", day, separator="|").cast(pl.Binary)
    return table.select(both).to_series().to_list()
