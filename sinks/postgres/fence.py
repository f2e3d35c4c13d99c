"""Who writes a partition, and how far it is: the rows of `sink_offsets`.

Upstream: the sink. Invariant: `move` succeeds for exactly one owner and exactly once for each
range, in the transaction that writes the rows; everybody else finds out why not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import psycopg
from psycopg import sql

from streamgauge.sinks.errors import Fenced, Rewound
from streamgauge.sinks.sink import Log, Partition, Range


@dataclass(frozen=True, kw_only=True)
class Owned:
    """A partition as this process knows it."""

    epoch: int
    generation: int
    position: int | None


# The epoch is also at least the clock's: where the fences were lost with the database, and count
# from nothing again, an owner of before must not look like one of after.
_OPEN = """
    INSERT INTO {offsets} AS s
        (topic, partition, epoch, generation, cluster_id, topic_id, owner)
    SELECT topic, partition, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, 0,
           cluster_id, topic_id, %s
    FROM unnest(%s::text[], %s::integer[], %s::text[], %s::text[])
        AS n (topic, partition, cluster_id, topic_id)
    ORDER BY topic, partition
    ON CONFLICT (topic, partition) DO UPDATE SET
        epoch = greatest(s.epoch + 1, excluded.epoch),
        generation = s.generation + CASE WHEN {same_log} THEN 0 ELSE 1 END,
        next_offset = CASE WHEN {same_log} THEN s.next_offset END,
        cluster_id = excluded.cluster_id,
        topic_id = excluded.topic_id,
        owner = excluded.owner,
        updated_at = now()
    RETURNING topic, partition, epoch, generation, next_offset"""

_SAME_LOG = sql.SQL("(s.cluster_id, s.topic_id) = (excluded.cluster_id, excluded.topic_id)")

_MOVE = """
    UPDATE {offsets} s SET next_offset = n.next_offset, updated_at = now()
    FROM unnest(%s::integer[], %s::bigint[], %s::bigint[], %s::bigint[])
        AS n (partition, epoch, position, next_offset)
    WHERE s.topic = %s AND s.partition = n.partition AND s.epoch = n.epoch
        AND s.next_offset IS NOT DISTINCT FROM n.position"""

_READ = "SELECT partition, epoch, next_offset FROM {offsets} WHERE topic = %s"


def take(
    connection: psycopg.Connection, schema: str, owner: str, partitions: Mapping[Partition, Log]
) -> dict[Partition, Owned]:
    """Take partitions over: a new epoch each, and the position if it is of the same log."""
    query = sql.SQL(_OPEN).format(offsets=_offsets(schema), same_log=_SAME_LOG)
    logs = partitions.values()
    parameters = [
        owner,
        [topic for topic, _ in partitions],
        [partition for _, partition in partitions],
        [log.cluster_id for log in logs],
        [log.topic_id for log in logs],
    ]
    return {
        (topic, partition): Owned(epoch=epoch, generation=generation, position=position)
        for topic, partition, epoch, generation, position in connection.execute(query, parameters)
    }


def move(
    connection: psycopg.Connection,
    schema: str,
    topic: str,
    owned: Mapping[int, Owned],
    ranges: Mapping[int, Range],
) -> bool:
    """Move positions to the ends of ranges; False where an earlier attempt has done so already."""
    ends = {
        p: ranges[p].end if ranges[p].end > ranges[p].start else o.position
        for p, o in owned.items()
    }
    moved = connection.execute(
        sql.SQL(_MOVE).format(offsets=_offsets(schema)),
        [
            list(owned),
            [one.epoch for one in owned.values()],
            [one.position for one in owned.values()],
            list(ends.values()),
            topic,
        ],
    ).rowcount
    if moved == len(owned):
        return True
    found = {
        partition: (epoch, position)
        for partition, epoch, position in connection.execute(
            sql.SQL(_READ).format(offsets=_offsets(schema)), [topic]
        )
    }
    newer = [p for p, one in owned.items() if found.get(p, (0, None))[0] > one.epoch]
    if newer:
        raise Fenced(f"{topic} {newer}: another instance writes them by now")
    if all(found.get(p) == (one.epoch, ends[p]) for p, one in owned.items()):
        return False
    raise Rewound(f"{topic}: Postgres is at {found}, it was at {dict(owned)} before")


def advanced(owned: Owned, to: Range) -> Owned:
    """The partition after a range was written."""
    return replace(owned, position=to.end) if to.end > to.start else owned


def _offsets(schema: str) -> sql.Identifier:
    return sql.Identifier(schema, "sink_offsets")
