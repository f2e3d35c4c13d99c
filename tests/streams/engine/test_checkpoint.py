"""The file of a checkpoint: whole or not there, and no bit of it may change."""

import os
import time

import pytest

from streamgauge.streams.engine.checkpoint import (
    DIGEST,
    MAGIC,
    START,
    Changelog,
    Checkpoints,
    Damaged,
    Head,
    found,
    verified,
)

HEAD = Head(
    cluster="c1",
    group="ns.group/with:odd signs",
    task="Counting",
    identity="1",
    topic="in",
    topic_id="t1",
    partition=3,
    offset=70,
    changelogs={"log": Changelog(topic_id="l1", next=9, seen=1.5)},
    written=2.5,
)


@pytest.fixture
def checkpoints(tmp_path):
    return Checkpoints(tmp_path, HEAD.group)


def path(tmp_path):
    (only,) = found(tmp_path)
    return only


def test_what_is_written_is_read_again_and_a_newer_one_takes_its_place(checkpoints, tmp_path):
    assert checkpoints.read("Counting", 3) is None
    for snapshot in (b"old", b"new", b""):
        checkpoints.write(HEAD, snapshot)
        head, content = checkpoints.read("Counting", 3)
        assert (head, bytes(content)) == (HEAD, snapshot)
    assert checkpoints.read("Counting", 4) is None
    assert verified(path(tmp_path))[0] == HEAD


def test_a_change_anywhere_makes_it_unusable_and_it_is_deleted(checkpoints, tmp_path):
    #  magic | digest | length of the head | head | snapshot
    checkpoints.write(HEAD, b"a snapshot")
    whole = path(tmp_path).read_bytes()
    length = int.from_bytes(whole[START - 4 : START], "big")
    regions = [0, len(MAGIC), len(MAGIC) + DIGEST - 1, START - 4, START - 1, START]
    regions += [START + length // 2, START + length - 1, START + length, len(whole) - 1]
    for place in regions:
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path(tmp_path).write_bytes(damaged)
        with pytest.raises(Damaged):
            verified(path(tmp_path))
        assert checkpoints.read("Counting", 3) is None
        assert list(found(tmp_path)) == []
        checkpoints.write(HEAD, b"a snapshot")


def test_a_file_that_is_cut_short_or_goes_on_is_unusable(checkpoints, tmp_path):
    checkpoints.write(HEAD, b"a snapshot")
    whole = path(tmp_path).read_bytes()
    for content in [whole[:size] for size in range(len(whole))] + [whole + b"x", b""]:
        path(tmp_path).write_bytes(content)
        with pytest.raises(Damaged):
            verified(path(tmp_path))


def test_who_does_not_own_them_deletes_nothing(checkpoints, tmp_path):
    checkpoints.write(HEAD, b"a snapshot")
    path(tmp_path).write_bytes(b"damaged")
    assert checkpoints.unowned().read("Counting", 3) is None
    assert path(tmp_path).exists()


def test_a_write_that_fails_leaves_the_earlier_one(checkpoints, tmp_path, monkeypatch):
    checkpoints.write(HEAD, b"earlier")

    def full(_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disk full"):
        checkpoints.write(HEAD, b"later")
    assert bytes(checkpoints.read("Counting", 3)[1]) == b"earlier"
    assert len(list(path(tmp_path).parent.iterdir())) == 1


def test_what_a_killed_process_left_half_written_is_swept_away_after_a_while(checkpoints, tmp_path):
    checkpoints.write(HEAD, b"whole")
    left = path(tmp_path).with_suffix(".123.new")
    left.write_bytes(b"half")
    checkpoints.sweep()
    assert left.exists()  # somebody may still be writing it
    os.utime(left, (time.time() - 7200,) * 2)
    checkpoints.sweep()
    assert not left.exists()
    assert checkpoints.read("Counting", 3) is not None
