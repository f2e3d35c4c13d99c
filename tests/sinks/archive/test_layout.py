"""Files' names are the archive's positions."""

from pathlib import Path

import pytest

from streamgauge.sinks.archive import coverage
from streamgauge.sinks.archive.layout import newest, path, span
from streamgauge.sinks.sink import Range

NOON = 1_767_268_800_000


def test_a_path_says_hour_partition_and_offsets() -> None:
    said = path(3, Range(start=0, end=1000), NOON + 59 * 60_000)
    assert said == "date=2026-01-01/hour=12/p3-000000000000-000000000999.parquet"
    assert span(Path(said).name) == (3, Range(start=0, end=1000))


@pytest.mark.parametrize("name", ["p3.parquet", "x-1-2.parquet", "p1-000000000000-1.parquet.tmp"])
def test_other_files_say_nothing(name: str) -> None:
    assert span(name) is None


@pytest.fixture
def events(tmp_path: Path) -> Path:
    return tmp_path / "default" / "events"


def put(events: Path, day: int, partition: int, start: int, end: int) -> None:
    file = events / path(partition, Range(start=start, end=end), NOON + day * 86_400_000)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()


def test_coverage_ends_at_the_first_hole(events: Path) -> None:
    # p0: [0 10)[10 20)      p1: [5 10)   [12 20)
    for partition, start, end in [(0, 10, 20), (0, 0, 10), (1, 5, 10), (1, 12, 20)]:
        put(events, 0, partition, start, end)
    (events / "date=2026-01-01" / "notes.parquet").touch()
    assert coverage(events.parent) == coverage(events) == {0: 20, 1: 10}


def test_nothing_is_covered_where_nothing_is(tmp_path: Path) -> None:
    assert coverage(tmp_path) == {}
    assert newest(tmp_path, 0) is None


def test_the_newest_end_is_found_though_the_clock_stepped_back(events: Path) -> None:
    put(events, 0, 0, 0, 10)
    put(events, 2, 0, 10, 20)
    put(events, 1, 0, 20, 30)
    put(events, 3, 1, 0, 99)
    assert newest(events, 0) == 30
