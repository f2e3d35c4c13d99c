"""Exactly once, through kill -9, SIGSTOP and rebalances, on real Kafka."""

import signal
import time

import pytest
from confluent_kafka.admin import AdminClient

from streamgauge.cli.stack.supervisor import STOP_TIMEOUT

pytestmark = [pytest.mark.kafka, pytest.mark.alone, pytest.mark.timeout(900)]

POINTS = [
    "mid_batch:2",
    "before_flush:2",
    "after_flush:2",
    "after_send_offsets:2",
    "after_commit:1",
    "during_restore:1",
]
RELAY_POINTS = ["mid_batch:6", "before_flush:6", "after_flush:7", "after_send_offsets:6"]
RELAY_POINTS += ["after_send_offsets:7", "after_commit:6", "after_commit:7"]


def test_a_kill_at_any_point_neither_loses_nor_doubles(counting):
    for point in POINTS:
        counting.produce(4000)
        counting.run(FAULTPOINT=f"{point}:kill")
    assert counting.run() == 0
    counting.assert_exact(4000 * len(POINTS))


def test_what_is_passed_on_between_barriers_is_neither_lost_nor_doubled(counting):
    relaying = {"RELAY": "1", "COMMIT_INTERVAL": "1", "BATCH": "20000"}
    relaying["CHECKPOINTS"] = str(counting.logs / "checkpoints")
    produced = 0
    for point in RELAY_POINTS:
        worker = counting.start(**relaying, FAULTPOINT=f"{point}:kill")
        deadline = time.monotonic() + 60
        while worker.poll() is None:  # so that some are read, and wait, whenever it relays
            assert time.monotonic() < deadline, counting.log()[-4000:]
            counting.produce(200)
            produced += 200
            time.sleep(0.05)
    assert counting.log().count("relayed between barriers") > len(RELAY_POINTS)
    assert counting.run(**relaying) == 0
    counting.assert_exact(produced)
    assert sorted(counting.read("relayed")) == sorted(
        (partition, value, value) for partition, _, value in counting.read("forwarded")
    )


def test_two_workers_killed_and_stopped_while_records_arrive(counting):
    workers = [counting.start("w0"), counting.start("w1")]
    for round_ in range(10):
        counting.produce(2000)
        time.sleep(1)
        if round_ in (3, 7):
            workers[0].kill()
            workers[0].wait()
            workers[0] = counting.start("w0")
        if round_ == 5:
            workers[1].terminate()
            assert workers[1].wait(60) in (0, -signal.SIGTERM)  # the latter while it starts
            workers[1] = counting.start("w1")
    counting.wait_for(20_000)
    counting.assert_exact(20_000)


@pytest.mark.slow
def test_a_zombie_cannot_commit(counting):
    #  w0  ──running──STOP───────────── 15 s ─────────────CONT── lost: rolls back, rejoins
    #  w1  ──running────takes over at the session timeout, restores, goes on──
    workers = [counting.start("w0"), counting.start("w1")]
    counting.produce(2000)
    counting.wait_for(2000)
    workers[0].send_signal(signal.SIGSTOP)
    counting.produce(2000)
    counting.wait_for(4000)
    time.sleep(8)
    workers[0].send_signal(signal.SIGCONT)
    counting.produce(2000)
    counting.wait_for(6000)
    counting.assert_exact(6000)


def test_the_same_worker_id_started_twice_fences_the_older(counting):
    first = counting.start("w0")
    counting.produce(500)
    counting.wait_for(500)
    counting.start("w0")
    counting.produce(2000)
    counting.wait_for(2500)
    deadline = time.monotonic() + 120
    while first.poll() is None and time.monotonic() < deadline:
        counting.produce(100)
        time.sleep(0.5)
    assert first.poll() not in (None, 0)
    assert "fenced by a newer instance" in counting.log()


def test_a_stop_commits_and_leaves_the_group_before_a_supervisor_would_kill(counting):
    worker = counting.start("w0")
    counting.produce(1000)
    counting.wait_for(1000)
    worker.terminate()
    assert worker.wait(STOP_TIMEOUT) == 0
    # a member that stayed behind would keep the partitions until its session times out
    assert members(counting) == []
    counting.produce(10)
    counting.start("w1")
    counting.wait_for(1010)
    counting.assert_exact(1010)


def members(counting):
    """Of the only group that there is in the namespace."""
    admin = AdminClient({"bootstrap.servers": counting.kafka})
    groups = [one.group_id for one in admin.list_consumer_groups().result(60).valid]
    (group,) = [name for name in groups if name.startswith(counting.namespace)]
    return admin.describe_consumer_groups([group])[group].result(60).members
