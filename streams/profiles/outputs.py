"""Profiles as records, and records as profiles.

Upstream: `feed.py`. Downstream: the topics `user-profiles` and `daily-analytics`; a restart reads
the former. Invariant: `restored` of what `record` says is the profile, to the last bit.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from streamgauge.schemas.profile_records import COUNTS, DECAYED, SUMS
from streamgauge.streams.metrics.keys import firsts
from streamgauge.streams.profiles import rows as profile
from streamgauge.streams.profiles.figures import Figures
from streamgauge.streams.profiles.parts import Part
from streamgauge.streams.profiles.profiles import Selection
from streamgauge.streams.profiles.rows import COUNT, DAY_MS, FADING, NEVER, SUM
from streamgauge.streams.profiles.tags import KINDS, Names, code_of

Array = np.ndarray

_LISTS = {"tags": pl.String, "tag_epochs": pl.Int64, "tag_now": pl.Int64, "tag_then": pl.Int64}
_NULLABLE = (
    *("learning_velocity", "dropout_risk"),
    *("avg_session_seconds", "avg_quiz_score", "avg_completion"),
)
_SAME = ("last_day", "days_before", "run_before", "epoch")


def readable(selection: Selection, at: Array, names: Names) -> pl.DataFrame:
    """The fields for people, as of the day of `at`."""
    of, rows = Figures(selection, at, names), selection.rows
    return pl.DataFrame(
        {
            "user_id": selection.users,
            "computed_at": of.day * DAY_MS,
            "first_seen": rows["first_seen"],
            "last_seen": rows["last_seen"],
            "events": of.events,
            "active_days": of.active_days,
            "current_streak": of.streak,
            "active_days_7": of.active(7),
            "active_days_28": of.active(28),
            "days_since_last_seen": of.age,
            "engagement_score": of.engagement_score,
            **{name: pl.Series(getattr(of, name), nan_to_null=True) for name in _NULLABLE},
            "preferred_device": pl.Series(of.device, dtype=pl.String),
            "preferred_genres": of.top("genre"),
            "preferred_content_types": of.top("type"),
            "preferred_hours": of.hours("hours"),
            "preferred_watch_hours": of.hours("watch_hours"),
            "country": pl.Series(of.country, dtype=pl.String),
            **{name: rows["counts"][:, at].astype(np.int64) for name, at in COUNT.items()},
            **{name: rows["sums"][:, at].copy() for name, at in SUM.items()},
        }
    )


def record(selection: Selection, at: Array, names: Names, offset: Array) -> pl.DataFrame:
    """All fields; `offset`: through which source offset the profiles are."""
    rows = selection.rows
    return readable(selection, at, names).with_columns(
        *(pl.Series(name, rows[name].astype(np.int64)) for name in _SAME),
        pl.Series("day_mask", rows["mask"].astype(np.uint64).view(np.int64)),
        *(pl.Series(f"{name}_now", rows["now"][:, n].copy()) for name, n in FADING.items()),
        *(pl.Series(f"{name}_then", rows["then"][:, n].copy()) for name, n in FADING.items()),
        *(pl.Series(name, _bytes(rows[name]), dtype=pl.Binary) for name in _HOURS),
        *(_time(name, rows[name]) for name in ("country_at", "sessions_through")),
        *_lists(selection, names),
        pl.Series("emitted_offset", offset),
    )


_HOURS = ("hours", "watch_hours")


def _bytes(counts: Array) -> list[bytes]:
    text, width = np.ascontiguousarray(counts).tobytes(), counts.shape[1] * counts.itemsize
    return [text[at : at + width] for at in range(0, len(text), width)]


def _time(name: str, values: Array) -> pl.Series:
    return pl.Series(name, np.where(values == NEVER, 0, values)).set(
        pl.Series(values == NEVER), None
    )


def _lists(selection: Selection, names: Names) -> list[pl.Series]:
    """What is counted by name, in lists."""
    order = np.argsort(selection.place, kind="stable")
    run = selection.tags.take(order)
    texts = np.array(names.texts, object)[code_of(run.key)]
    flat = pl.DataFrame([texts.tolist(), *run.columns], schema=_LISTS, orient="col")
    flat = flat.with_columns(place=selection.place[order])
    lists = flat.group_by("place", maintain_order=True).agg(pl.exclude("place"))
    everyone = pl.DataFrame({"place": np.arange(len(selection.rows))})
    joined = everyone.join(lists, on="place", how="left", maintain_order="left")
    return [
        joined[name].fill_null(pl.Series([[]], dtype=pl.List(kind)))
        for name, kind in _LISTS.items()
    ]


def restored(frame: pl.DataFrame, partition: int) -> Part:
    """The profiles of decoded records, of one partition."""
    rows = profile.empty(frame.height)
    rows["partition"] = partition
    for name in ("first_seen", "last_seen", *_SAME):
        rows[name] = frame[name].to_numpy()
    rows["told"] = frame["computed_at"].to_numpy() // DAY_MS
    rows["mask"] = frame["day_mask"].to_numpy().view(np.uint64)
    for part, names in (("counts", COUNTS), ("sums", SUMS)):
        for at, name in enumerate(names):
            rows[part][:, at] = frame[name].to_numpy()
    for at, name in enumerate(DECAYED):
        rows["now"][:, at] = frame[f"{name}_now"].to_numpy()
        rows["then"][:, at] = frame[f"{name}_then"].to_numpy()
    for name in _HOURS:
        rows[name] = np.frombuffer(b"".join(frame[name]), np.uint16).reshape(-1, 24)
    for name in ("country_at", "sessions_through"):
        rows[name] = frame[name].fill_null(NEVER).to_numpy()
    counts = frame["tags"].list.len().fill_null(0).to_numpy()
    texts = frame["tags"].explode(empty_as_null=False)
    known, codes = np.unique(texts.to_numpy(), return_inverse=True)
    country = [None if text is None else f"country:{text}" for text in frame["country"]]
    return Part(
        rows=rows,
        users=frame["user_id"],
        country=pl.Series(country, dtype=pl.String),
        texts=known.tolist(),
        owner=np.repeat(np.arange(frame.height), counts),
        codes=codes.astype(np.uint32),
        columns=tuple(
            frame[name].explode(empty_as_null=False).to_numpy().astype(kind)
            for name, kind in (
                *(("tag_epochs", np.int32), ("tag_now", np.int64), ("tag_then", np.int64)),
            )
        ),
    )


def days(selection: Selection, since: Array, names: Names) -> tuple[pl.DataFrame, Array]:
    """What the users did on each day from one on (by user); and whose each row is."""
    codes = code_of(selection.tags.key)
    day, place = names.day(codes), selection.place
    mine = (names.kind(codes) == KINDS.index("day")) & (day >= since[place])
    mine = mine.nonzero()[0]
    order = mine[np.lexsort((day[mine], place[mine]))]
    place, day, codes = place[order], day[order], codes[order]
    now = selection.tags.columns[1][order]
    first = firsts(place)
    first[1:] |= day[1:] != day[:-1]
    row, starts = first.cumsum() - 1, first.nonzero()[0]
    what = [names.texts[code].split(":", 2)[2] for code in codes.tolist()]
    totals = {name: np.zeros(len(starts), np.int64) for name in _OF_DAY}
    genres: list[list[str]] = [[] for _ in starts]
    for at, name, value in zip(row.tolist(), what, now.tolist(), strict=True):
        if name in totals:
            totals[name][at] += value
        else:
            genres[at].append(name.partition(":")[2])
    created, completed = totals["created"], totals["completed"]
    none = np.full(len(starts), np.nan)
    rate = np.divide(completed, created, out=none, where=created > 0)
    score = 70.0 * np.minimum(np.nan_to_num(rate), 1.0) + 6.0 * np.minimum(completed, 5)
    owner = place[starts]
    frame = pl.DataFrame(
        {
            "user_id": selection.users.gather(owner),
            "date": day[starts] * DAY_MS,
            "events": totals["events"],
            "sessions": totals["sessions"],
            "minutes": totals["ms"] / 60_000.0,
            "tasks_created": created,
            "tasks_completed": completed,
            "completion_rate": pl.Series(rate, nan_to_null=True),
            "productivity_score": score,
            "genres": pl.Series([sorted(some) for some in genres], dtype=pl.List(pl.String)),
        }
    )
    return frame, owner


_OF_DAY = ("events", "sessions", "ms", "created", "completed")
