"""The archive beyond what every sink does."""

import fcntl
import os
from pathlib import Path
from typing import Any

import duckdb
import pytest

from streamgauge.schemas.events import PageView, Request
from streamgauge.schemas.records import Tick
from streamgauge.sinks.archive import coverage, ledger
from streamgauge.sinks.archive.records import table
from streamgauge.sinks.archive.sink import ArchiveSink
from streamgauge.sinks.errors import Fatal, Fenced, Retryable, Rewound
from streamgauge.sinks.sink import Batch, Log, Range

HOUR = 3_600_000
NOON = 1_767_268_800_000
ALL = {("events", 0): Log()}


@pytest.fixture
def opened(parquet: Any) -> ArchiveSink:
    sink: ArchiveSink = parquet.sink()
    sink.open(ALL)
    return sink


def view(name: str = "a") -> PageView:
    return PageView(user_id="u", page_url=name, timestamp=NOON)


def files(parquet: Any) -> list[str]:
    return sorted(str(f.relative_to(parquet.events)) for f in parquet.events.rglob("*.parquet"))


def test_every_record_is_kept_whatever_it_holds(message: Any, batch: Any, opened: Any) -> None:
    rows = table(
        batch(
            opened,
            [
                message("events", 0, 0, view(), "u"),
                message("events", 0, 1, b"garbage", "k", NOON + 5),
                message("events", 0, 2, Tick(timestamp=NOON)),
                message("events", 0, 3, None, "k"),
                message("events", 0, 4, Request(user_id="u", timestamp=NOON, status=500)),
            ],
        )
    )
    assert rows["event_type"].to_list() == ["page_view", None, "tick", None, "request"]
    assert rows["reject_reason"].to_list() == [None, "bad_header", None, "bad_header", None]
    assert rows["append_time"].to_list() == [NOON, NOON + 5, NOON, NOON, NOON]
    assert rows["key"].to_list() == [b"u", b"k", None, b"k", None]
    assert rows["payload"].to_list()[1] == b"garbage"
    assert rows["schema_id"].null_count() == 2
    assert rows["status"].to_list()[4] == 500
    assert rows["topic"].unique().to_list() == ["events"]


def test_files_are_cut_by_the_hour_of_appending(
    parquet: Any, opened: Any, message: Any, batch: Any
) -> None:
    # 12:00  0 1 | 13:00  2
    at = [NOON, NOON + HOUR - 1, NOON + HOUR]
    opened.write(batch(opened, [message("events", 0, i, view(), at=t) for i, t in enumerate(at)]))
    assert files(parquet) == [
        "date=2026-01-01/hour=12/p0-000000000000-000000000001.parquet",
        "date=2026-01-01/hour=13/p0-000000000002-000000000002.parquet",
    ]


def test_duckdb_reads_it(parquet: Any, opened: Any, message: Any, batch: Any) -> None:
    opened.write(batch(opened, [message("events", 0, i, view(f"/{i}")) for i in range(3)]))
    found = duckdb.sql(
        f"SELECT page_url, hour FROM '{parquet.events}/**/*.parquet' ORDER BY \"offset\""
    ).fetchall()
    assert found == [("/0", 12), ("/1", 12), ("/2", 12)]


def test_a_file_stands_for_the_markers_before_it(
    parquet: Any, opened: Any, message: Any, batch: Any
) -> None:
    opened.write(batch(opened, [message("events", 0, 0, view())], {0: (0, 2)}))
    empty = parquet.batch(0, 0, ("a", 1.0)).frame.clear()
    opened.write(Batch(topic="events", ranges={0: Range(start=2, end=5)}, frame=empty))
    opened.write(batch(opened, [message("events", 0, 5, view())]))
    assert coverage(parquet.folder / "default") == {0: 6}


@pytest.mark.parametrize("proven", [False, True])
def test_what_retention_took_stays_a_hole(
    parquet: Any, opened: Any, message: Any, batch: Any, proven: bool
) -> None:
    opened.write(batch(opened, [message("events", 0, 0, view())]))
    if proven:  # as the sink does while nothing comes, to see that it still owns the partition
        empty = parquet.batch(0, 0, ("a", 1.0)).frame.clear()
        opened.write(Batch(topic="events", ranges={0: Range(start=7, end=7)}, frame=empty))
    opened.write(batch(opened, [message("events", 0, 7, view())]))
    assert coverage(parquet.events) == {0: 1}
    assert parquet.sink().open(ALL) == {("events", 0): 8}


def test_torn_drafts_of_its_partitions_are_removed(parquet: Any, opened: Any) -> None:
    drafts = parquet.folder / "default" / ".drafts"
    (drafts / "p0-dead").write_bytes(b"torn")
    (drafts / "p1-busy").write_bytes(b"somebody writes it")
    parquet.sink().open(ALL)
    assert [f.name for f in drafts.iterdir()] == ["p1-busy"]


def test_half_a_batch_is_completed_not_repeated(
    parquet: Any, opened: Any, message: Any, batch: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_hours = batch(
        opened, [message("events", 0, i, view(f"{i}"), at=NOON + i * HOUR) for i in (0, 1)]
    )
    real, calls = Path.rename, []

    def second_fails(self: Path, target: Any) -> Path:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", second_fails)
    with pytest.raises(Retryable, match="No space left"):
        opened.write(two_hours)
    assert len(files(parquet)) == 1
    opened.write(two_hours)
    opened.write(two_hours)
    assert len(files(parquet)) == 2
    assert coverage(parquet.events) == {0: 2}


def test_an_archive_of_another_topic_is_moved_aside_whole(
    parquet: Any, opened: Any, caplog: pytest.LogCaptureFixture
) -> None:
    opened.write(parquet.batch(0, 0, ("a", 1.0)))
    other = parquet.sink()
    assert other.open({("events", 0): Log(cluster_id="new")}) == {("events", 0): None}
    assert files(parquet) == []
    (aside,) = parquet.events.parent.glob("events-before-*")
    assert coverage(aside) == {0: 1}
    assert str(aside) in caplog.text
    with pytest.raises(Fenced):
        opened.write(parquet.batch(0, 1, ("b", 1.0)))


def test_a_folder_that_vanished_is_made_again(parquet: Any, opened: Any) -> None:
    opened.write(parquet.batch(0, 0, ("a", 1.0)))
    parquet.folder.rename(parquet.folder.with_name("gone"))
    with pytest.raises(Rewound):
        opened.write(parquet.batch(0, 1, ("b", 1.0)))
    assert opened.open(ALL) == {("events", 0): None}


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Fatal, match="give another folder"):
        ArchiveSink(tmp_path / "file").open(ALL)


def test_opening_nothing_makes_nothing(tmp_path: Path) -> None:
    assert ArchiveSink(tmp_path / "a").open({}) == {}
    assert not (tmp_path / "a").exists()


def test_a_lock_that_somebody_keeps_is_an_outage(
    parquet: Any, opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger, "_PATIENCE", 0.05)
    handle = os.open(parquet.folder / "default" / ".lock", os.O_RDWR)
    fcntl.flock(handle, fcntl.LOCK_EX)
    with pytest.raises(Retryable, match="holds"):
        opened.write(parquet.batch(0, 0, ("a", 1.0)))
    os.close(handle)
    opened.write(parquet.batch(0, 0, ("a", 1.0)))
    assert parquet.contents() == {"a": 1.0}
