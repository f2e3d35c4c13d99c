"""Reads raw records from the Parquet archive, as its sink laid them down, hour by hour.

Upstream: `<archive>/<namespace or default>/events/date=…/hour=…/p<partition>-<first>-<last>.parquet`.
Downstream: the recomputation, which decodes `payload` itself. Invariants: records of a partition
come in offset order; a cut that the files do not cover is refused, never shortened.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import duckdb

from streamgauge.cli.verify.errors import CutNotCoveredError
from streamgauge.cli.verify.recompute import Raw

_NAME = re.compile(r"p(\d+)-(\d+)-(\d+)\.parquet")
_CHUNK = 20_000


class Archive:
    """The archived `events` of one namespace."""

    def __init__(self, root: Path, namespace: str) -> None:
        self._folder = root / (namespace or "default") / "events"

    def ends(self) -> dict[int, int]:
        """Partition → offset after the last archived record."""
        return {p: max(last for _, last in held) + 1 for p, held in self._ranges().items()}

    def read(self, cut: Mapping[int, int]) -> Iterator[list[Raw]]:
        """Every record before the cut, one partition after the other, in chunks."""
        held = self._ranges()
        for partition, end in sorted(cut.items()):
            if end > 0:
                files = self._covering(partition, end, held.get(partition, {}))
                yield from self._records(partition, end, files)

    def _ranges(self) -> dict[int, dict[tuple[int, int], list[Path]]]:
        """First and last offset of what each partition's files hold, and the files."""
        ranges: dict[int, dict[tuple[int, int], list[Path]]] = {}
        for path in self._folder.glob("date=*/hour=*/p*.parquet"):
            if found := _NAME.fullmatch(path.name):
                partition, first, last = map(int, found.groups())
                ranges.setdefault(partition, {}).setdefault((first, last), []).append(path)
        return ranges
