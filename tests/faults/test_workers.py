"""What happens to workers: stopped in the middle of a commit, a storm of rebalances, no memory,
input that retention has taken."""

import os
import resource
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from prometheus_client import REGISTRY

from streamgauge.streams.engine.restore import Commit, Restorer
from tests.faults.reading import Reading
from tests.faults.sinking import is_stopped, until

pytestmark = [pytest.mark.kafka, pytest.mark.alone, pytest.mark.timeout(600)]

ALL = os.environ.get("FAULTS") == "all"
slow = pytest.mark.skipif(not ALL, reason="half a minute: FAULTS=all")


@pytest.mark.parametrize("point", ["after_flush", "after_send_offsets"])
@pytest.mark.parametrize("late", [False, pytest.param(True, marks=slow)], ids=["", "late"])
def test_a_worker_stopped_within_its_commit_commits_whole_or_not_at_all(counting, point, late):
    #  w0  500 | 500 more, within its commit: STOP ······· CONT
    #  w1                                      takes over, waits for the open transaction
    #  Not late: w0 goes on while w1 waits. Late: the broker has aborted its transaction.
    zombie = counting.start("w0", FAULTPOINT=f"{point}:2:stop", BATCH="500")
    counting.produce(500)
    # On a busy machine they may come in two batches: then it is the second of these.
    until(lambda: is_stopped(zombie) or len(counting.read("forwarded")) == 500)
    seen = Reading(counting)
    counting.produce(500)
    until(lambda: is_stopped(zombie))
    counting.start("w1")
    until(lambda: "numbers/3" in counting.log("w1"), says=lambda: counting.log("w1"))
    if late:
        counting.wait_for(1000)
        time.sleep(5)
    zombie.send_signal(signal.SIGCONT)
    counting.produce(500)
    counting.wait_for(1500)
    counting.assert_exact(1500)
    assert seen.taken_back() == []


def test_a_worker_joins_or_leaves_every_few_seconds(counting):
    #  w0  ────────────────────────────────
    #  w1     ──SIGTERM  ──kill  ──SIGTERM
    counting.start("w0")
    rounds = 12 if ALL else 3
    for round_ in range(rounds):
        counting.produce(300)
        other = counting.start("w1")
        until(lambda: counting.log("w1").count("restored; reading") > round_)  # noqa: B023
        counting.produce(300)
        time.sleep(1)
        if round_ % 2:
            other.kill()
            assert other.wait() == -signal.SIGKILL
        else:
            other.terminate()
            assert other.wait(120) == 0
    counting.wait_for(600 * rounds)
    counting.assert_exact(600 * rounds)


def test_without_memory_a_worker_ends_and_the_next_one_loses_nothing(counting):
    worker = counting.start()
    counting.produce(500)
    counting.wait_for(500)
    status = Path(f"/proc/{worker.pid}/status").read_text().split()
    used = int(status[status.index("VmData:") + 1]) << 10
    resource.prlimit(worker.pid, resource.RLIMIT_DATA, (used, used))
    counting.produce(1, raw=b"0" * 900_000)
    for _ in range(20):
        counting.produce(2000)
    assert worker.wait(180) not in (0, None)
    counting.start()
    counting.wait_for(40_500)
    counting.assert_exact(40_500)


def test_records_that_retention_took_unread_are_told_and_passed(counting):
    #  0 … committed | deleted unread | low … end
    worker = counting.start()
    counting.produce(400)
    counting.wait_for(400)
    worker.terminate()
    assert worker.wait(120) == 0
    before = counting.produced.copy()
    counting.produce(400)
    numbers = counting.topic("numbers")
    ends = _ends(counting.kafka, numbers)
    admin = AdminClient({"bootstrap.servers": counting.kafka})
    asked = [TopicPartition(numbers, p, end) for p, end in ends.items()]
    for future in admin.delete_records(asked).values():
        future.result(30)
    counting.produced = before
    counting.produce(400)
    assert counting.run() == 0
    counting.assert_exact(800)
    assert counting.log().count("deleted by the topic's retention before they were processed") == 4
    assert "Raise retention.ms" in counting.log()


def _ends(kafka, topic):
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "asking"})
    ends = {p: consumer.get_watermark_offsets(TopicPartition(topic, p))[1] for p in range(4)}
    consumer.close()
    return ends


def test_what_retention_took_is_counted():
    restorer = Restorer({})
    restorer._lookup = SimpleNamespace(starts=lambda places: {("in", 0): 10})
    engine = SimpleNamespace(tasks=[], unqualified=str)
    assert restorer.run(engine, {("in", 0): Commit(offset=3)}, lambda: False) == {("in", 0): 10}
    assert REGISTRY.get_sample_value("streamgauge_deleted_unread_total", {"topic": "in"}) == 7
