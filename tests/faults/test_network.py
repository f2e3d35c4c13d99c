"""What happens between workers and their broker: answers that are lost, cuts, delays, bounces."""

import os
import signal
import threading
import time

import pytest

from streamgauge.cli.stack.proxy import ApiKey, Delay, Drop
from tests.faults.reading import Reading
from tests.faults.sinking import until

pytestmark = [pytest.mark.kafka, pytest.mark.alone, pytest.mark.timeout(600)]

slow = pytest.mark.skipif(os.environ.get("FAULTS") != "all", reason="half a minute: FAULTS=all")


@pytest.fixture
def feeding(proxied):
    """Produces 2000 records, 100 at a time, while something happens to others."""
    thread = threading.Thread(target=lambda: [_some(proxied) for _ in range(20)])

    def start():
        thread.start()
        return thread

    return start


def _some(counting):
    counting.produce(100)
    time.sleep(0.2)


def test_killed_while_the_answer_to_its_commit_is_on_its_way(proxied, proxy):
    proxied.produce(1000)
    held = proxy.on_response({ApiKey.END_TXN}, Delay(60), times=1)
    worker = proxied.start(BATCH="500")
    until(lambda: held.fired, says=proxied.log)
    worker.kill()
    assert worker.wait() == -signal.SIGKILL
    proxy.sever()
    proxy.clear()
    assert proxied.run() == 0
    proxied.assert_exact(1000)


@pytest.mark.parametrize(
    ("requests", "action"),
    [
        pytest.param({ApiKey.END_TXN}, Delay(3), id="late"),
        pytest.param({ApiKey.END_TXN}, Drop(close=True), id="lost-with-its-connection"),
        pytest.param({ApiKey.PRODUCE}, Drop(close=True), id="produce", marks=slow),
        pytest.param({ApiKey.ADD_OFFSETS_TO_TXN}, Drop(close=True), id="add-offsets"),
        pytest.param({ApiKey.TXN_OFFSET_COMMIT}, Drop(close=True), id="offset-commit"),
        pytest.param(
            {ApiKey.ADD_PARTITIONS_TO_TXN}, Drop(close=True), id="add-partitions", marks=slow
        ),
        pytest.param({ApiKey.END_TXN}, Drop(), id="lost", marks=slow),
    ],
)
def test_answers_within_a_commit_are_late_or_lost(proxied, proxy, requests, action):
    proxied.start()
    proxied.produce(500)
    proxied.wait_for(500)
    seen = Reading(proxied)
    rule = proxy.on_response(requests, action, times=3 if isinstance(action, Delay) else 1)
    for _ in range(5):
        _some(proxied)
    until(lambda: rule.fired, says=proxied.log)
    proxied.wait_for(1000)
    proxied.assert_exact(1000)
    assert seen.taken_back() == []


def test_a_partition_longer_than_the_session_and_a_slow_network_afterwards(proxied, proxy, feeding):
    #  network  ──|cut ······ 8 s|── 100 ms a piece ──
    proxied.start()
    producing = feeding()
    proxied.wait_for(500)
    proxy.cut()
    time.sleep(8)
    proxy.restore(lost=True)
    proxy.delay(0.1)
    producing.join()
    proxied.wait_for(2000)
    proxied.assert_exact(2000)


@pytest.mark.parametrize("hard", [False, True], ids=["clean", "hard"])
def test_the_broker_is_bounced_while_records_arrive(broker, proxied, feeding, hard):
    workers = {name: proxied.start(name) for name in ("w0", "w1")}
    producing = feeding()
    proxied.wait_for(300)
    seen = Reading(proxied)
    broker.restart(hard=hard)
    producing.join()
    proxied.wait_for(2000)
    proxied.assert_exact(2000)
    assert seen.taken_back() == []
    # A bounce that takes longer than a transaction may (10 s) is a fencing to who had one open: the
    # broker aborted it and raised its epoch. Such a worker ends, for its supervisor to start anew.
    ended = [name for name, worker in workers.items() if worker.poll() is not None]
    assert len(ended) < 2
    assert all("Timed out" in (log := proxied.log(name)) and "Fenced" in log for name in ended)
