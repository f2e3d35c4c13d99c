"""Restoring waits for the transactions that were open when the offsets were fetched."""

import threading
import time

import pytest

pytestmark = pytest.mark.kafka


def test_restore_reads_up_to_the_high_watermark_not_the_last_stable_offset(counting):
    # the changelog of partition 0:   ... open (of somebody else) | committed counts | end
    # a reader that stops at the last stable offset misses the counts above the open one
    worker = counting.start("w0")
    counting.produce(1000)
    counting.wait_for(1000)
    intruder = counting.intrude()
    counting.produce(1000)
    counting.wait_for(2000)
    worker.terminate()
    assert worker.wait(60) == 0
    threading.Thread(target=lambda: (time.sleep(8), intruder.abort_transaction())).start()
    counting.produce(1000)
    assert counting.run() == 0
    counting.assert_exact(3000)
