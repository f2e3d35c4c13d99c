"""When to try again."""

import pytest

from streamgauge.sinks.errors import Retryable
from streamgauge.sinks.outage import LONGEST, Outage


def test_waits_grow_up_to_a_bound() -> None:
    outage = Outage("test")
    waits = []
    for _ in range(30):
        outage.failed(100.0, Retryable("gone"))
        waits.append(outage.until - 100.0)
    assert 0.05 <= waits[0] <= 0.1
    assert waits[3] > waits[0]
    assert all(LONGEST / 2 <= wait <= LONGEST for wait in waits[8:])


def test_each_change_of_state_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    outage = Outage("test")
    outage.over(0.0)
    for now in (1.0, 2.0):
        outage.failed(now, Retryable("gone"))
    assert outage.down
    for now in (4.0, 5.0):
        outage.over(now)
    assert not outage.down
    assert [record.getMessage() for record in caplog.records] == [
        "test sink pauses: gone",
        "test sink goes on after 3.0 s",
    ]


def test_after_an_outage_the_first_wait_is_short_again() -> None:
    outage = Outage("test")
    for _ in range(10):
        outage.failed(0.0, Retryable("gone"))
    outage.over(1.0)
    outage.failed(2.0, Retryable("gone"))
    assert outage.until <= 2.1
