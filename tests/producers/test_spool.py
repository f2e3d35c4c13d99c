"""The spool: what was appended is read once, in order, whatever happened in between."""

import errno
import os
import signal
import subprocess
import sys
import time
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgauge.producers.errors import SpoolFull, SpoolUnusable
from streamgauge.producers.segments import FRAME, SegmentLog
from streamgauge.producers.spool import Spool

MB = 1 << 20


def payloads(first, last):
    return [f"event {number}".encode() for number in range(first, last)]


def drain(spool, batch=7):
    found = []
    while some := spool.read(batch, MB):
        found += some
        spool.done()
    return found


@pytest.fixture
def spool(tmp_path):
    return Spool(tmp_path / "spool", max_bytes=MB)


def crash(spool):
    """What `kill -9` leaves: files as they are, and no lock."""
    spool.abandon()


def test_what_is_appended_is_read_in_order(spool):
    spool.append(payloads(0, 10))
    spool.append(payloads(10, 25))
    assert spool.pending == 25
    assert drain(spool) == payloads(0, 25)
    assert (spool.pending, spool.size) == (0, 0)
    spool.append(payloads(25, 30))
    assert drain(spool) == payloads(25, 30)


def test_what_is_not_done_is_read_again(spool):
    spool.append(payloads(0, 10))
    assert spool.read(4, MB) == spool.read(4, MB) == payloads(0, 4)
    spool.done()
    assert spool.read(4, MB) == payloads(4, 8)


def test_a_batch_is_bounded_in_bytes_and_has_at_least_one_record(spool):
    spool.append([b"x" * 1000] * 5)
    assert len(spool.read(100, 2500)) == 2
    assert len(spool.read(100, 1)) == 1


def test_appending_goes_on_while_it_is_read(spool):
    spool.append(payloads(0, 10))
    spool.read(4, MB)
    spool.append(payloads(10, 20))
    spool.done()
    assert drain(spool) == payloads(4, 20)


def test_it_is_bounded_and_takes_all_or_nothing(tmp_path):
    spool = Spool(tmp_path, max_bytes=1000)
    spool.append([b"x" * 400] * 2)
    with pytest.raises(SpoolFull):
        spool.append([b"x" * 100] * 2)
    assert spool.pending == 2
    spool.append([b"x" * 100])
    assert len(drain(spool)) == 3
    spool.append([b"x" * 900])


def test_segments_are_removed_once_they_are_read(tmp_path):
    log = SegmentLog(tmp_path, segment_bytes=1000)
    for number in range(10):
        log.append([bytes([number]) * 400], sync=True)
    assert len(list(tmp_path.glob("*.log"))) == 4
    for record in list(log.records())[:7]:
        log.advance(record.next, 1)
    assert len(list(tmp_path.glob("*.log"))) == 2
    assert [record.payload[0] for record in log.records()] == [7, 8, 9]
    log.close()


def test_the_next_process_goes_on_where_the_dead_one_was(tmp_path):
    first = Spool(tmp_path, max_bytes=MB)
    first.append(payloads(0, 10))
    first.read(4, MB)
    first.done()
    first.read(4, MB)
    crash(first)

    second = Spool(tmp_path, max_bytes=MB)
    assert second.adopt() == 6
    second.append(payloads(10, 12))
    assert drain(second) == payloads(4, 12)
    second.close()
    assert list(tmp_path.iterdir()) == []


def test_a_living_process_keeps_what_is_its_own(tmp_path):
    first, second = (Spool(tmp_path, max_bytes=MB) for _ in range(2))
    first.append(payloads(0, 5))
    assert second.adopt() == 0
    crash(first)
    assert second.adopt() == 5
    third = Spool(tmp_path, max_bytes=MB)
    assert third.adopt() == 0
    assert drain(second) == payloads(0, 5)


def test_closing_leaves_the_rest_to_the_next(tmp_path):
    first = Spool(tmp_path, max_bytes=MB, fsync="interval")
    first.append(payloads(0, 5))
    first.close()
    second = Spool(tmp_path, max_bytes=MB)
    assert second.adopt() == 5


def test_a_directory_that_cannot_be_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolUnusable):
        Spool(tmp_path / "file" / "spool", max_bytes=MB)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=8), st.data())
def test_a_torn_tail_costs_no_record_that_was_complete(tmp_path_factory, records, data):
    # [frame][frame][fra|      killed while it wrote the last one
    folder = tmp_path_factory.mktemp("torn")
    log = SegmentLog(folder)
    log.append(records, sync=False)
    log.close()
    path = folder / "00000001.log"
    cut = data.draw(st.integers(0, path.stat().st_size))
    os.truncate(path, cut)
    ends, at = [], 0
    for record in records:
        at += FRAME.size + len(record)
        ends.append(at)
    again = SegmentLog(folder)
    whole = sum(end <= cut for end in ends)
    assert [record.payload for record in again.records()] == records[:whole]
    assert (again.pending, again.unreadable) == (whole, 0)
    again.close()


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_damaged_record_is_passed_and_counted(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("damaged")
    log = SegmentLog(folder)
    records = [bytes([number]) * 20 for number in range(1, 6)]
    log.append(records, sync=False)
    log.close()
    path = folder / "00000001.log"
    bytes_ = bytearray(path.read_bytes())
    hit = data.draw(st.integers(0, len(records) - 1))
    offset = data.draw(st.integers(4, FRAME.size + 19))  # crc or payload
    bytes_[hit * (FRAME.size + 20) + offset] ^= 0x55
    path.write_bytes(bytes_)
    again = SegmentLog(folder)
    assert [r.payload for r in again.records()] == records[:hit] + records[hit + 1 :]
    assert (again.pending, again.unreadable) == (4, 1)
    again.close()


def test_zeros_at_the_end_are_no_records(tmp_path):
    # A power cut may leave a file longer than what was written to it.
    log = SegmentLog(tmp_path)
    log.append([b"one"], sync=True)
    log.close()
    with (tmp_path / "00000001.log").open("ab") as file:
        file.write(bytes(4096))
    again = SegmentLog(tmp_path)
    assert [record.payload for record in again.records()] == [b"one"]
    assert zlib.crc32(b"") == 0
    again.close()


def test_a_damaged_cursor_reads_everything_again(tmp_path):
    log = SegmentLog(tmp_path)
    log.append(payloads(0, 5), sync=True)
    third = list(log.records())[2]
    log.advance(third.next, 3)
    log.close()
    (tmp_path / "cursor").write_bytes(b"x" * 20)
    again = SegmentLog(tmp_path)
    assert again.pending == 5
    again.close()


@pytest.mark.parametrize("written", [0, 5, 30])
def test_a_full_disk_leaves_no_half_record(spool, monkeypatch, written):
    spool.append(payloads(0, 3))
    write = os.write
    left = [written]

    def full(file, data):
        if not left[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        done = write(file, data[: left[0]])
        left[0] -= done
        return done

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(OSError, match="No space"):
        spool.append(payloads(3, 9))
    monkeypatch.undo()
    spool.append(payloads(9, 12))
    assert drain(spool) == payloads(0, 3) + payloads(9, 12)


def test_records_of_a_process_killed_while_it_writes_are_all_there(tmp_path):
    script = (
        "import sys; from pathlib import Path; from streamgauge.producers.spool import Spool\n"
        "spool = Spool(Path(sys.argv[1]), max_bytes=1 << 30, fsync='never')\n"
        "number = 0\n"
        "while True:\n"
        "    spool.append([b'event %d' % (number + one) for one in range(10)])\n"
        "    number += 10\n"
        "    print(number, flush=True)\n"
    )
    told = tmp_path / "told"
    folder = tmp_path / "spool"
    with told.open("w") as out:
        child = subprocess.Popen([sys.executable, "-c", script, folder], stdout=out)
        while not told.exists() or told.stat().st_size < 2000:
            time.sleep(0.01)
        child.send_signal(signal.SIGKILL)
        child.wait()
    acknowledged = int(told.read_text().rpartition("\n")[0].split()[-1])
    spool = Spool(folder, max_bytes=1 << 30)
    spool.adopt()
    found = drain(spool, 1000)
    assert len(found) >= acknowledged
    assert found == payloads(0, len(found))
