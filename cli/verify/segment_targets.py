"""What the targets say of segments, beside what the raw log says.

Upstream: `users.py` computed it again. Downstream: the report. Memberships change with every event,
so nothing is compared where events keep coming. Everything must be equal: who, when, why, and the
hash of the rule. The compacted topic has the last stay of each user and segment; of one that is
over it does not know any more why it began.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from streamgauge.cli.verify import compare
from streamgauge.cli.verify.config import VerifyConfig
from streamgauge.cli.verify.log import Log
from streamgauge.cli.verify.postgres import Tables
from streamgauge.cli.verify.redis import Counters
from streamgauge.cli.verify.report import Comparison
from streamgauge.cli.verify.segments import Membership, Stay, StayKey
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.topics import SEGMENT_COUNTS, USER_SEGMENTS

TABLES = (USER_SEGMENTS.name, SEGMENT_COUNTS.name)
"""Topics that the Postgres sink reads."""
SETS = (USER_SEGMENTS.name,)
"""Those that the Redis sink reads."""

_STAYS = (
    "user_id, segment, (extract(epoch FROM entered_at) * 1000)::bigint,"
    " (extract(epoch FROM left_at) * 1000)::bigint, reason_in, reason_out, rule_version"
)
_COUNTS = "segment, (extract(epoch FROM at) * 1000)::bigint, source_partition, members"

Rows = Mapping[str, str]
"""What is said, by what it is said of; both as text for the report."""


def compare_segments(
    fold: Membership,
    config: VerifyConfig,
    log: Log,
    codec: Codec,
    tables: Tables | None,
    counters: Counters | None,
) -> Iterator[Comparison]:
    """Each target."""

    def topic_rows(name: str) -> dict[str, dict[str, Any]]:
        values = log.last_values(config.topic(name))
        return {(key or b"").decode(): codec.decode(it).record for key, it in values.items()}

    def as_far_as_kept(comparison: Comparison) -> Comparison:
        whole = log.is_whole(config.topic(comparison.target))
        return comparison if whole else compare.without_missing(comparison)

    if not all(log.exists(config.topic(name)) for name in TABLES):
        return
    last = {
        f"{user}|{segment}": f"{key}: {replace(stay, reason_in=None) if stay.left_at else stay}"
        for (user, segment), (key, stay) in fold.last().items()
    }
    moves = {key: _move(row) for key, row in topic_rows(USER_SEGMENTS.name).items() if _is_of(row)}
    yield as_far_as_kept(compare.rows(USER_SEGMENTS.name, last, moves))
    counts = {"|".join(map(str, place)): str(n) for place, n in fold.counts.items()}
    told = {key: str(row["members"]) for key, row in topic_rows(SEGMENT_COUNTS.name).items()}
    yield as_far_as_kept(compare.rows(SEGMENT_COUNTS.name, counts, told))
    if tables is not None:
        stays = {
            str(key): _text(
                stay.left_at, _parsed(stay.reason_in), _parsed(stay.reason_out), stay.rule_version
            )
            for key, stay in fold.stays.items()
        }
        rows = {
            str(StayKey(*row[:3])): _text(*row[3:])
            for row in tables.select("user_segments", _STAYS)
        }
        yield compare.rows("postgres.user_segments", stays, rows)
        sizes = {
            f"{segment}|{at}|{partition}": str(members)
            for segment, at, partition, members in tables.select("segment_counts", _COUNTS)
        }
        yield compare.rows("postgres.segment_counts", counts, sizes)
    if counters is not None:
        members = {(key.segment, key.user_id) for key in fold.open()}
        wanted = {f"segment:{segment}|{user}" for segment, user in members}
        wanted |= {f"user:{user}|{segment}" for segment, user in members}
        found = {f"{key}|{member}" for key, member in counters.members(USER_SEGMENTS.name)}
        yield compare.rows("redis.user-segments", _there(wanted), _there(found))


def _is_of(row: Mapping[str, Any]) -> bool:
    """A user's, and not the worker's own rules."""
    return "user_id" in row


def _move(row: Mapping[str, Any]) -> str:
    names = ("left_at", "reason_in", "reason_out", "rule_version")
    stay = Stay(**{name: row[name] for name in names})
    return f"{StayKey(row['user_id'], row['segment'], row['entered_at'])}: {stay}"


def _text(left_at: int | None, reason_in: Any, reason_out: Any, rule_version: str) -> str:
    """A stay as Postgres keeps it: JSON has no order of keys there."""
    told = [
        reason if reason is None else json.dumps(reason, sort_keys=True)
        for reason in (reason_in, reason_out)
    ]
    stay = Stay(left_at=left_at, reason_in=told[0], reason_out=told[1], rule_version=rule_version)
    return str(stay)


def _parsed(reason: str | None) -> Any:
    return None if reason is None else json.loads(reason)


def _there(names: set[str]) -> Rows:
    return dict.fromkeys(names, "there")
