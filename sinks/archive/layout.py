"""Where the archive's files lie, and which offsets they hold; their names say it.

    <target>/<namespace or default>/events/
        date=2026-01-31/hour=07/p0-000000000000-000000000999.parquet

Date and hour are those of the first record's append time, UTC. The numbers are the first and the
last offset that the file stands for; offsets without a record (transaction markers) are inside.
Invariant: no two files stand for the same offset.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

from streamgauge.sinks.sink import Range

_NAME = re.compile(r"p(\d+)-(\d{12,})-(\d{12,})\.parquet")


def path(partition: int, span: Range, append_time: int) -> str:
    """A file's path below `events/`."""
    at = datetime.fromtimestamp(append_time / 1000, UTC)
    name = f"p{partition}-{span.start:012d}-{span.end - 1:012d}.parquet"
    return f"date={at:%Y-%m-%d}/hour={at:%H}/{name}"


def span(name: str) -> tuple[int, Range] | None:
    """Partition and offsets of a file, from its name; None for any other file."""
    named = _NAME.fullmatch(name)
    if named is None:
        return None
    partition, first, last = map(int, named.groups())
    return partition, Range(start=first, end=last + 1)


def newest(events: Path, partition: int) -> int | None:
    """The end of what is archived of a partition.

    Looks at the two newest days that have any of it (the broker's clock may have stepped back),
    not at years of files.
    """
    ends: list[int] = []
    days = 0
    for day in sorted(events.glob("date=*"), reverse=True):
        found = [held.end for p, held in _spans(day) if p == partition]
        ends += found
        days += bool(found)
        if days == 2:
            break
    return max(ends, default=None)


def coverage(path: Path | str) -> dict[int, int]:
    """How far each partition is archived without a hole, as next offsets.

    `path` is a namespace's folder or the `events` folder in it. A hole (a file was removed, or
    retention was quicker than the sink) ends the coverage; what lies before the first file is
    none.
    """
    events = Path(path)
    if (events / "events").is_dir():
        events = events / "events"
    held: dict[int, list[Range]] = {}
    for partition, one in _spans(events):
        held.setdefault(partition, []).append(one)
    ends = {}
    for partition, spans in held.items():
        spans.sort(key=lambda one: one.start)
        end = spans[0].end
        for one in spans[1:]:
            if one.start > end:
                break
            end = max(end, one.end)
        ends[partition] = end
    return dict(sorted(ends.items()))


def _spans(folder: Path) -> list[tuple[int, Range]]:
    """Partition and offsets of every file below a folder."""
    found = (span(file.name) for file in folder.rglob("*.parquet"))
    return [one for one in found if one is not None]
