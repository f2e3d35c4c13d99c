"""What stands too long or goes back, with the broker's absences left out."""

from streamgauge.cli.chaos.standing import HANG, OPEN_LIMIT, Standing

EVENTS = ("worker", "events", 0)
METRICS = ("metrics", 0)


def standing(*commits: tuple[float, int, int], group: str = "worker") -> Standing:
    """After commits at (time, offset, lag), each judged at once."""
    found = Standing()
    for now, offset, lag in commits:
        found.committed((group, "events", 0), offset, lag, now)
        found.judge(now)
    return found


def test_what_moves_or_has_nothing_to_do_does_not_hang() -> None:
    found = standing((0, 5, 1), (HANG - 1, 5, 9), (HANG, 6, 8), (HANG + 9, 7, 0), (9 * HANG, 7, 0))
    assert found.broken == []
    assert found.longest_stall == HANG - 1


def test_new_work_after_a_long_rest_is_no_hang() -> None:
    assert standing((0, 5, 0), (9 * HANG, 5, 3), (9 * HANG + 1, 6, 2)).broken == []


def test_what_stands_with_lag_hangs_and_is_told_once() -> None:
    found = standing((0, 5, 1), (HANG + 1, 5, 2), (HANG + 2, 5, 3))
    assert [what[:2] for what in found.broken] == ["I6"]


def test_the_time_without_a_broker_does_not_count() -> None:
    found = standing((0, 5, 1))
    found.broker(away=True, now=1)
    found.judge(HANG * 2)
    found.broker(away=False, now=HANG * 2)
    found.judge(HANG * 3 - 1)
    assert found.broken == []
    found.judge(HANG * 3 + 1)
    assert len(found.broken) == 1


def test_a_workers_commit_must_not_go_back_but_a_sinks_may() -> None:
    assert [what[:2] for what in standing((0, 5, 1), (1, 4, 2)).broken] == ["I2"]
    assert standing((0, 5, 1), (1, 0, 6), group="sink-redis").broken == []


def test_a_transaction_that_holds_an_end_for_too_long() -> None:
    found = Standing()
    found.ends(METRICS, 7, 9, 0)
    found.ends(METRICS, 8, 9, OPEN_LIMIT)  # another one
    found.judge(OPEN_LIMIT * 2)
    assert found.broken == []
    found.judge(OPEN_LIMIT * 2 + 1)
    assert [what[:2] for what in found.broken] == ["I6"]
    assert found.longest_open == OPEN_LIMIT + 1


def test_a_fault_is_got_over_when_every_partition_with_lag_has_moved() -> None:
    found = standing((0, 5, 1))
    found.committed(("worker", "events", 1), 5, 1, 0)
    found.committed(("sink-redis", "metrics", 0), 5, 1, 0)
    recovery = found.recovery(["worker"], 10)
    found.committed(EVENTS, 6, 1, 11)
    assert recovery.seconds is None
    found.committed(("worker", "events", 1), 5, 0, 13)
    assert recovery.seconds == 3


def test_recovery_is_time_with_a_broker() -> None:
    found = standing((0, 5, 1))
    found.broker(away=True, now=8)
    recovery = found.recovery(["worker"], 10)
    found.broker(away=False, now=20)
    found.broker(away=True, now=21)
    found.broker(away=False, now=24)
    found.committed(EVENTS, 6, 1, 26)
    assert recovery.seconds == 1 + 2
