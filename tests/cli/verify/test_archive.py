"""Raw records from Parquet files named as the archive's sink names them."""

import polars as pl
import pytest

from streamgauge.cli.verify.archive import Archive, Range
from streamgauge.cli.verify.recompute import Raw


@pytest.fixture
def put(tmp_path):
    """Write a file that stands for [first, last] and holds these offsets."""

    def write(partition, first, last, offsets, hour="07", namespace="default"):
        folder = tmp_path / namespace / "events" / "date=2026-01-31" / f"hour={hour}"
        folder.mkdir(parents=True, exist_ok=True)
        frame = pl.DataFrame(
            {
                "topic": ["events"] * len(offsets),
                "partition": pl.Series([partition] * len(offsets), dtype=pl.Int32),
                "offset": offsets,
                "append_time": [1000 + offset for offset in offsets],
                "payload": [None if offset == 3 else f"v{offset}".encode() for offset in offsets],
                "reject_reason": pl.Series([None] * len(offsets), dtype=pl.String),
            }
        )
        frame.write_parquet(folder / f"p{partition}-{first:012d}-{last:012d}.parquet")

    return write


def read(tmp_path, cut, namespace=""):
    return [raw for chunk in Archive(tmp_path, namespace).read(cut) for raw in chunk]


def test_records_come_by_partition_in_offset_order_up_to_the_cut(put, tmp_path):
    put(0, 2, 4, [2, 3, 4], hour="08")
    put(0, 0, 1, [0, 1])
    put(1, 0, 0, [0])
    assert read(tmp_path, {0: 4, 1: 1}) == [
        Raw(0, 0, 1000, b"v0"),
        Raw(0, 1, 1001, b"v1"),
        Raw(0, 2, 1002, b"v2"),
        Raw(0, 3, 1003, None),
        Raw(1, 0, 1000, b"v0"),
    ]


def test_a_namespace_has_files_of_its_own(put, tmp_path):
    put(0, 0, 0, [0], namespace="other")
    assert read(tmp_path, {0: 1}) == []
    assert len(read(tmp_path, {0: 1}, namespace="other")) == 1


def test_offsets_that_no_file_stands_for_are_named(put, tmp_path):
    #  offsets   0 1 2 3 4 5 6 7 8
    #  files       [1  2]  [4 5]        cut 9; 4 is in the name only: a marker, and covered
    put(0, 1, 2, [1, 2])
    put(0, 4, 5, [5])
    archive = Archive(tmp_path, "")
    assert archive.uncovered({0: 9}) == [Range(0, 0, 1), Range(0, 3, 4), Range(0, 6, 9)]
    assert archive.uncovered({0: 3}) == [Range(0, 0, 1)]
    assert archive.uncovered({1: 2}) == [Range(1, 0, 2)]
    assert archive.uncovered({1: 0}) == []


def test_other_files_are_no_business_of_ours(put, tmp_path):
    put(0, 0, 0, [0])
    folder = tmp_path / "default" / "events" / "date=2026-01-31" / "hour=07"
    (folder / "notes.parquet").write_bytes(b"")
    assert len(read(tmp_path, {0: 1})) == 1
