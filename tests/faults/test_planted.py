"""The fault tests' own checks find bugs: each is planted, and found; without it all is well.

The interleaving that a bug needs is forced, by a fault point, a process that stops itself or a
transaction held open, never left to luck.
"""

import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tests.faults.planted import DONE
from tests.faults.sinking import is_stopped, until

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(600)]


def killed_after_a_commit(counting):
    # read 0…499 | commit, kill | read on from what is committed
    counting.produce(1000)
    assert counting.run(FAULTPOINT="after_commit:1:kill", BATCH="500") == -signal.SIGKILL
    assert counting.run() == 0
    return counting.differences(1000)


def aborted_after_a_flush(counting):
    counting.produce(500)
    assert counting.run(FAULTPOINT="after_flush:1:raise") == 0
    return counting.differences(500)


def an_agent_raises(counting):
    counting.produce(500)
    assert counting.run(RAISES="1") == 0
    return counting.differences(500)


def a_zombie_writes_by_a_timer(counting):
    #  w0  ──500──| about to write its counts again: STOP ············· CONT, writes 500's counts
    #  w1                          takes over at the session timeout ──500 more──
    zombie = counting.start("w0", REPEAT="stop")
    counting.produce(500)
    until(lambda: is_stopped(zombie))
    counting.start("w1")
    counting.produce(500)
    counting.wait_for(1000)
    zombie.send_signal(signal.SIGCONT)
    until(lambda: "rolling back" in counting.log("w0"))
    return counting.differences(1000)


def restored_while_a_transaction_is_open(counting):
    # the changelog of a partition:   … | open, of somebody else | committed counts | end
    worker = counting.start()
    counting.produce(500)
    counting.wait_for(500)
    intruder = counting.intrude()
    counting.produce(500)
    counting.wait_for(1000)
    worker.terminate()
    assert worker.wait(120) == 0
    counting.start("w1")
    until(lambda: "numbers/3" in counting.log("w1"), says=lambda: counting.log("w1"))
    with suppress(AssertionError):  # it must wait for the end of the open transaction
        until(lambda: "restored; reading" in counting.log("w1"), 8)
    if DONE in counting.log("w1"):  # it does not wait
        until(lambda: "restored; reading" in counting.log("w1"))
    counting.produce(500)
    intruder.abort_transaction()
    counting.wait_for(1500)
    return counting.differences(1500)


FINDS = {
    killed_after_a_commit: ("commit_before_flush", "offsets_outside"),
    aborted_after_a_flush: ("state_kept_after_abort",),
    an_agent_raises: ("exception_swallowed",),
    a_zombie_writes_by_a_timer: ("empty_offsets",),
    restored_while_a_transaction_is_open: ("restore_to_the_read_committed_end",),
}


@pytest.mark.parametrize("scenario", FINDS, ids=lambda scenario: scenario.__name__)
def test_bugs_of_the_engine_are_found_and_without_them_all_is_exact(counting_with, scenario):
    bugs = FINDS[scenario]
    harnesses = [counting_with(bug) for bug in ("none", *bugs)]
    exact, *found = _at_once(scenario, harnesses)
    assert exact == []
    assert [bug for bug, differences in zip(bugs, found, strict=True) if not differences] == []
    assert all(DONE in harness.log("*") for harness in harnesses[1:])


def _at_once(scenario, harnesses):
    """They mostly wait."""
    with ThreadPoolExecutor() as threads:
        return list(threads.map(scenario, harnesses))


def a_sink_stops_with_a_batch_in_hand(sinking):
    #  zombie  a=1 | a=2 b=2 in hand: STOP ······················· CONT, writes a=2 b=2
    #  owner                 takes over, writes them | a=3, b deleted |
    zombie = sinking.start("zombie", FAULTPOINT="sink_before_write:2:stop")
    sinking.commit({"a": 1})
    until(lambda: sinking.holds({"a": 1}), says=lambda: sinking.log("zombie"))
    sinking.commit({"a": 2, "b": 2})
    until(lambda: is_stopped(zombie))
    sinking.start("owner")
    until(lambda: sinking.holds({"a": 2, "b": 2}), says=lambda: sinking.log("owner"))
    sinking.commit({"a": 3, "b": None})
    until(lambda: sinking.holds({"a": 3}), says=lambda: sinking.log("owner"))
    zombie.send_signal(signal.SIGCONT)
    until(
        lambda: not sinking.holds({"a": 3}) or "joins its group anew" in sinking.log("zombie"),
        says=lambda: sinking.log("zombie"),
    )
    return sinking.contents()


@pytest.mark.parametrize("kind", ["postgres", "redis"])
def test_a_fence_left_out_of_a_sink_is_found_and_with_it_a_zombie_writes_nothing(sinking, kind):
    fenced, unfenced = sinking(kind), sinking(kind)
    unfenced.bug = f"no_fence_in_{kind}"
    kept, broken = _at_once(a_sink_stops_with_a_batch_in_hand, [fenced, unfenced])
    assert kept == {"a": 3}
    assert broken != {"a": 3}
    assert DONE in unfenced.log("zombie")
    fenced.commit({"c": 4})
    until(lambda: fenced.holds({"a": 3, "c": 4}), says=lambda: fenced.log("zombie"))
