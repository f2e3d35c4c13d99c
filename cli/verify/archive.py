"""Reads raw records from the Parquet archive, as its sink laid them down, hour by hour.

Upstream: `<root>/<namespace or default>/events/date=…/hour=…/p<partition>-<first>-<last>.parquet`.
Downstream: the recomputation, which decodes `payload` itself. Invariants: records of a partition
come in offset order; offsets that no file covers are named, so that a cut is never shortened
unseen.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import duckdb

from streamgauge.cli.verify.recompute import Raw

_NAME = re.compile(r"p(\d+)-(\d+)-(\d+)\.parquet")
_CHUNK = 20_000


class Range(NamedTuple):
    """Offsets [first, end) of a partition."""

    partition: int
    first: int
    end: int


class Archive:
    """The archived `events` of one namespace."""

    def __init__(self, root: Path, namespace: str) -> None:
        self._folder = root / (namespace or "default") / "events"

    def ends(self) -> dict[int, int]:
        """How far each partition is archived, as next offsets."""
        ends: dict[int, int] = {}
        for held in self._files().values():
            ends[held.partition] = max(held.end, ends.get(held.partition, 0))
        return ends

    def uncovered(self, cut: Mapping[int, int]) -> list[Range]:
        """Offsets before the cut that no file holds: markers of transactions, or something lost."""
        files, holes = self._files().values(), []
        for partition, end in sorted(cut.items()):
            at = 0
            held = sorted(each for each in files if each.partition == partition)
            for each in [*held, Range(partition, end, end)]:
                if at < each.first and at < end:
                    holes.append(Range(partition, at, min(each.first, end)))
                at = max(at, each.end)
        return holes

    def read(self, cut: Mapping[int, int]) -> Iterator[list[Raw]]:
        """Every record before the cut, one partition after the other, in chunks."""
        held_by = self._files()
        for partition, end in sorted(cut.items()):
            files = [
                str(path)
                for path, held in held_by.items()
                if held.partition == partition and held.first < end
            ]
            if not files:
                continue
            rows = duckdb.connect().execute(
                'SELECT partition, "offset", append_time, payload FROM read_parquet($files) '
                'WHERE "offset" < $end ORDER BY "offset"',
                {"files": files, "end": end},
            )
            while chunk := rows.fetchmany(_CHUNK):
                yield [Raw(*row) for row in chunk]

    def _files(self) -> dict[Path, Range]:
        found = {}
        for path in self._folder.glob("date=*/hour=*/*.parquet"):
            if named := _NAME.fullmatch(path.name):
                partition, first, last = map(int, named.groups())
                found[path] = Range(partition, first, last + 1)
        return found
