"""A restart reads what came after the checkpoint; one that is in doubt is as good as none."""

import re
import shutil
import signal
import time

import pytest

from streamgauge.streams.engine.checkpoint import found, verified

pytestmark = pytest.mark.kafka

ROWS = 4000


def restored(counting, worker_id="w0"):
    """Rows and checkpoints of each restore that the log tells of."""
    line = r"restored (\d+) rows in .* s, (\d+) partitions from checkpoints"
    return [tuple(map(int, match)) for match in re.findall(line, counting.log(worker_id))]


def await_checkpoints(folder, offsets):
    """Until the checkpoints are of a commit that has passed so many records."""
    deadline = time.monotonic() + 120
    while sum(verified(path)[0].offset for path in found(folder)) < offsets:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_after_a_kill_only_the_tail_of_the_changelog_is_read(counting, tmp_path):
    folder = tmp_path / "checkpoints"
    worker = counting.start(CHECKPOINTS=str(folder))
    counting.produce(ROWS)
    counting.wait_for(ROWS)
    await_checkpoints(folder, ROWS)
    time.sleep(1.5)  # for the ends of the changelogs to be asked again
    counting.produce(10)
    counting.wait_for(ROWS + 10)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    aside = tmp_path / "aside"
    shutil.copytree(folder, aside)
    counting.produce(100)
    assert counting.run(CHECKPOINTS=str(folder)) == 0
    counting.assert_exact(ROWS + 110)
    rows, loaded = restored(counting)[-1]
    assert loaded == 4
    assert rows < 200  # of the changelog's hundreds
    # and from the older ones, kept aside, as well: the group has moved on since
    counting.produce(100)
    assert counting.run(CHECKPOINTS=str(aside)) == 0
    counting.assert_exact(ROWS + 210)
    rows, loaded = restored(counting)[-1]
    assert loaded == 4
    counting.produce(100)
    assert counting.run() == 0
    counting.assert_exact(ROWS + 310)
    assert restored(counting)[-1][0] > rows


def test_a_kill_while_a_checkpoint_is_written_leaves_the_earlier_one(counting, tmp_path):
    folder = tmp_path / "checkpoints"
    # four partitions: the third time round, with two of them written
    worker = counting.start(CHECKPOINTS=str(folder), FAULTPOINT="during_checkpoint:11:kill")
    for _ in range(40):
        counting.produce(200)
        time.sleep(1)
        if worker.poll() is not None:
            break
    assert worker.wait(60) == -signal.SIGKILL
    assert len([verified(path) for path in found(folder)]) == 4
    assert list(folder.glob("*/*.new"))
    records = sum(counting.produced.values())
    assert counting.run(CHECKPOINTS=str(folder)) == 0
    counting.assert_exact(records)
    assert restored(counting)[-1][1] == 4


def test_damaged_and_foreign_checkpoints_are_as_good_as_none(counting, tmp_path):
    folder = tmp_path / "checkpoints"
    counting.produce(2000)
    assert counting.run(CHECKPOINTS=str(folder)) == 0
    first, second, third, fourth = found(folder)
    damaged = bytearray(first.read_bytes())
    damaged[-3] ^= 4
    first.write_bytes(damaged)
    second.write_bytes(third.read_bytes())  # of another partition
    fourth.unlink()
    counting.produce(2000)
    assert counting.run(CHECKPOINTS=str(folder)) == 0
    counting.assert_exact(4000)
    assert restored(counting)[-1][1] == 1
    assert "its checksum is wrong" in counting.log()
