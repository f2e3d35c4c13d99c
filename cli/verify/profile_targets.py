"""What the targets say of profiles, days and links, beside what the raw log says.

Upstream: `users.py` computed it again. Downstream: the report. Profiles change with every event, so
nothing is compared where events keep coming; records are held back for some seconds, and those of
a new day come little by little, so `verify` looks again. Counts and sums must be equal, quotients
to the last bits.
"""

import json
import struct
from collections.abc import Iterator, Mapping
from math import isclose
from typing import Any, LiteralString

from streamgauge.cli.verify import compare
from streamgauge.cli.verify.config import VerifyConfig
from streamgauge.cli.verify.log import Log
from streamgauge.cli.verify.postgres import Tables
from streamgauge.cli.verify.profiles import DAY_MS, day_of
from streamgauge.cli.verify.redis import Counters
from streamgauge.cli.verify.report import Comparison, Difference
from streamgauge.cli.verify.users import Users
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.profile_records import COUNTS, SUMS
from streamgauge.schemas.topics import DAILY_ANALYTICS, USER_LINKS, USER_PROFILES

TABLES = (USER_PROFILES.name, DAILY_ANALYTICS.name, USER_LINKS.name)
"""Topics that the Postgres sink reads."""
HASHES = (USER_PROFILES.name,)
"""Those that the Redis sink reads."""

_SAME = 1e-9
_PROFILE = (
    *("computed_at", "first_seen", "last_seen", "events", "active_days", "current_streak"),
    *("engagement_score", "learning_velocity", "dropout_risk", "avg_session_seconds", "sessions"),
    *("preferred_device", "preferred_genres", "preferred_hours", "country"),
)
_PROFILE_SQL: LiteralString = (
    "user_id, (extract(epoch FROM computed_at) * 1000)::bigint,"
    " (extract(epoch FROM first_seen) * 1000)::bigint,"
    " (extract(epoch FROM last_seen) * 1000)::bigint, events, active_days, current_streak,"
    " engagement_score, learning_velocity, dropout_risk, avg_session_seconds, sessions,"
    " preferred_device, preferred_genres, preferred_hours, country"
)
_DAY = (
    *("events", "sessions", "minutes", "tasks_created", "tasks_completed", "completion_rate"),
    *("productivity_score", "genres"),
)
_DAY_SQL: LiteralString = (
    "user_id, date - date '1970-01-01', events, sessions, minutes, tasks_created,"
    " tasks_completed, completion_rate, productivity_score, genres"
)

_HOT = (*_PROFILE, "days_since_last_seen", "preferred_content_types")
_HOT_DAYS = 30
"""Who was not seen for longer has no hash."""

Row = Mapping[str, Any]


def compare_profiles(
    users: Users,
    config: VerifyConfig,
    log: Log,
    codec: Codec,
    tables: Tables | None,
    counters: Counters | None,
) -> Iterator[Comparison]:
    """Each target."""
    if not all(log.exists(config.topic(name)) for name in TABLES):
        return

    def topic_rows(name: str) -> dict[str, Row]:
        values = log.last_values(config.topic(name))
        return {
            (key or b"").decode(): _counted(codec.decode(it).record) for key, it in values.items()
        }

    def as_far_as_kept(comparison: Comparison) -> Comparison:
        whole = log.is_whole(config.topic(comparison.target))
        return comparison if whole else compare.without_missing(comparison)

    profiles, days = profiles_of(users), _days(users)
    links = {
        f"{anonymous}|{user}": {"linked_at": at}
        for (anonymous, user), at in users.profiles.links.items()
    }
    told: tuple[Mapping[str, Row], ...] = (profiles, days, links)
    for name, expected in zip(TABLES, told, strict=True):
        yield as_far_as_kept(_compared(name, expected, topic_rows(name)))
    if counters is not None:
        wanted = {
            f"user:{user}": {name: row[name] for name in _HOT}
            for user, row in profiles.items()
            if row["days_since_last_seen"] <= _HOT_DAYS
        }
        hashes = counters.hashes(USER_PROFILES.name)
        told_hot = {key: _read(hashes[key], wanted.get(key, {})) for key in hashes}
        yield _compared("redis.user-profiles", wanted, told_hot)
    if tables is None:
        return
    rows = {
        user: dict(zip(_PROFILE, row, strict=True))
        for user, *row in tables.select("user_profiles", _PROFILE_SQL)
    }
    wanted = {user: {name: row[name] for name in _PROFILE} for user, row in profiles.items()}
    yield _compared("postgres.user_profiles", wanted, rows)
    rows = {
        f"{user}|{day}": dict(zip(_DAY, row, strict=True))
        for user, day, *row in tables.select("daily_analytics", _DAY_SQL)
    }
    yield _compared("postgres.daily_analytics", days, rows)
    pairs: LiteralString = "anonymous_id, user_id, (extract(epoch FROM linked_at) * 1000)::bigint"
    rows = {
        f"{anonymous}|{user}": {"linked_at": at}
        for anonymous, user, at in tables.select("user_links", pairs)
    }
    yield _compared("postgres.user_links", links, rows)


def profiles_of(users: Users) -> dict[str, Row]:
    """By user."""
    found: dict[str, Row] = {}
    for (partition, user), profile in users.profiles.users.items():
        if not profile.days:
            continue  # of a session alone there is no profile
        day = day_of(profile, users.watermark(partition))
        nothing = dict.fromkeys((*COUNTS, *SUMS), 0)
        found[user] = {**nothing, **profile.as_of(day), "computed_at": day * DAY_MS}
    return found


def _days(users: Users) -> dict[str, Row]:
    return {
        f"{user}|{day}": profile.of_day(day)
        for (_, user), profile in users.profiles.users.items()
        for day in profile.by_day
    }


def _read(fields: Mapping[str, str], wanted: Row) -> Row:
    """A hash, each field as what it should be."""
    return {name: _value(fields.get(name, ""), value) for name, value in wanted.items()}


def _value(text: str, like: Any) -> Any:
    """Text as the kind of value that is expected; as it is where it is not of that kind."""
    try:
        match like:
            case int() | float():
                return type(like)(text)
            case list():
                return json.loads(text)
    except ValueError:
        return text
    return text or None


def _counted(row: Mapping[str, Any]) -> Row:
    """With what it holds as bytes."""
    if "counts" not in row:
        return row
    counts = struct.unpack(f"<{len(COUNTS)}I", row["counts"])
    sums = struct.unpack(f"<{len(SUMS)}q", row["sums"])
    return {
        **row,
        **dict(zip(COUNTS, counts, strict=True)),
        **dict(zip(SUMS, sums, strict=True)),
    }


def _compared(target: str, expected: Mapping[str, Row], found: Mapping[str, Row]) -> Comparison:
    differences = []
    for key in sorted(expected.keys() | found.keys()):
        wanted, row = expected.get(key), found.get(key)
        if wanted is None or row is None:
            one, other = (compare.NOTHING if it is None else "a row" for it in (wanted, row))
        else:
            names = [name for name in wanted if not _same(wanted[name], row[name])]
            if not names:
                continue
            one, other = (", ".join(f"{n} {it[n]}" for n in names) for it in (wanted, row))
        differences.append(Difference(target=target, key=key, expected=one, found=other))
    return Comparison(target=target, keys=len(expected), differences=differences)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float | int):
        return isclose(one, other, rel_tol=_SAME, abs_tol=1e-12)
    if isinstance(one, list):
        return isinstance(other, list | tuple | None) and one == list(other or ())
    return bool(one == other)
