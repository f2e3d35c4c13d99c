"""What the views say of sessions and users, beside what the raw log says.

Upstream: `sessions.py` and `users.py` computed both again. Downstream: the report. The views' SQL
is written a second time here, in plain Python, by the name of each metric of
`schemas/catalogue/view_metrics.yaml`; those that follow from the table `metrics` alone are left
out, for it is compared itself. Nothing is compared where events keep coming.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from math import isclose
from statistics import fmean, median
from typing import Any

from streamgauge.cli.verify import compare
from streamgauge.cli.verify.postgres import Tables
from streamgauge.cli.verify.profiles import DAY_MS, Profile
from streamgauge.cli.verify.report import Comparison
from streamgauge.cli.verify.users import Users
from streamgauge.schemas.view_metrics import view_metrics

TARGET = "postgres.view_metrics"
OF_METRICS = frozenset({"genre_diversity", "creator_share"})
"""Those that follow from the table `metrics`."""

Row = Mapping[str, Any]
Values = dict[tuple[str, int, str], float | None]
"""By metric, start of the window (ms) and dimension ("" for none)."""


def compare_views(
    sessions: Iterable[Row], users: Users, profiles: Mapping[str, Row], tables: Tables
) -> Comparison:
    """All views, metric by metric."""
    expected = {
        **_of_sessions(list(sessions)),
        **_of_days(users.profiles.users.values()),
        **_of_profiles(profiles),
        **_of_segments(users, profiles),
    }
    found: Values = {}
    for one in view_metrics().values():
        if one.name not in OF_METRICS:
            for start, dimension, value in tables.view(one):
                found[one.name, start, dimension] = value
    return compare.rows(TARGET, expected, found, _same)


def _of_sessions(sessions: list[Row]) -> Values:
    values: Values = {}
    by_day: defaultdict[int, list[Row]] = defaultdict(list)
    counts: defaultdict[str, Counter[int]] = defaultdict(Counter)  # user, day
    for session in sessions:
        day = session["started_at"] // DAY_MS
        by_day[day].append(session)
        counts[session["user_id"]][day] += 1
    for day, some in by_day.items():
        minutes = [session["duration_seconds"] / 60 for session in some]
        played = [session["is_binge"] for session in some if session["playbacks"]]
        values |= _at(
            day,
            sessions=len(some),
            session_length=fmean(minutes),
            session_length_median=median(minutes),
            session_events=fmean(session["events"] for session in some),
            bounce_rate=fmean(session["events"] == 1 for session in some),
            binge_rate=fmean(played) if played else None,
            session_conversion_rate=fmean(session["conversions"] > 0 for session in some),
        )
        after = [
            [n for ahead in range(8) if (n := of[day + ahead])] for of in counts.values() if of[day]
        ]
        values |= _at(
            day,
            return_rate_7d=fmean(len(days) > 1 for days in after),
            return_frequency=fmean(sum(days) for days in after),
        )
    return values


def _of_days(profiles: Iterable[Profile]) -> Values:
    values: Values = {}
    users: defaultdict[int, set[int]] = defaultdict(set)
    scores: defaultdict[int, list[float]] = defaultdict(list)
    genres: defaultdict[int, defaultdict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
    days = set()
    for number, profile in enumerate(profiles):
        for day in profile.by_day:
            did = profile.of_day(day)
            days.add(day)
            if did["events"]:
                users[day].add(number)
            if did["tasks_created"] + did["tasks_completed"]:
                scores[day].append(did["productivity_score"])
            if did["genres"]:
                monday = day - (day + 3) % 7  # the first day of 1970 was a Thursday
                genres[monday][number] |= set(did["genres"])
    for day in days:
        active = set().union(*(users[day - ago] for ago in range(7)))
        values |= _at(day, active_users_7d=len(active))
    for day, some in scores.items():
        values |= _at(day, productivity_score=fmean(some))
    for week, by_user in genres.items():
        sizes = [len(names) for names in by_user.values()]
        narrow = fmean(size < 5 for size in sizes)
        values |= _at(week, genres_per_user_week=fmean(sizes), narrow_users_week=narrow)
    return values


def _of_profiles(profiles: Mapping[str, Row]) -> Values:
    if not profiles:
        return {}
    rows = profiles.values()

    def mean(name: str) -> float | None:
        known = [row[name] for row in rows if row[name] is not None]
        return fmean(known) if known else None

    return _at(
        max(row["computed_at"] for row in rows) // DAY_MS,
        engagement_score=mean("engagement_score"),
        learning_velocity=mean("learning_velocity"),
        dropout_risk=mean("dropout_risk"),
        tasks_overdue=sum(row["tasks_overdue"] for row in rows),
    )


def _of_segments(users: Users, profiles: Mapping[str, Row]) -> Values:
    scores: defaultdict[str, list[float]] = defaultdict(list)
    for key in users.membership.open():
        if key.user_id in profiles:
            scores[key.segment].append(profiles[key.user_id]["engagement_score"])
    if not scores:
        return {}
    start = max(row["computed_at"] for row in profiles.values()) // DAY_MS * DAY_MS
    means = {segment: fmean(some) for segment, some in scores.items()}
    middle = fmean(means.values())
    spread = (max(means.values()) - min(means.values())) / middle if middle else None
    values: Values = {("engagement_spread", start, ""): spread}
    values |= {("segment_engagement", start, name): mean for name, mean in means.items()}
    return values


def _at(day: int, **values: float | None) -> Values:
    return {(name, day * DAY_MS, ""): value for name, value in values.items()}


def _same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
