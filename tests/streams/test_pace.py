"""When a worker catches up, records are held back longer."""

from __future__ import annotations

import pytest

from streamgauge.streams.pace import HELD_S, THROTTLE, Pace


@pytest.mark.parametrize(("event_seconds", "hold"), [(1, THROTTLE), (3, THROTTLE), (60, HELD_S)])
def test_records_are_held_back_longer_while_event_time_passes_fast(
    event_seconds: int, hold: float
) -> None:
    pace = Pace(THROTTLE)
    for second in range(5):
        pace.measure(1000.0 + second, {0: second * event_seconds * 1000, 1: 0})
    assert pace.hold == hold


def test_once_caught_up_they_are_held_back_as_always() -> None:
    pace = Pace(THROTTLE)
    for second, watermark in enumerate([0, 3_600_000, 3_601_000]):
        pace.measure(float(second), {0: watermark})
    assert pace.hold == THROTTLE


def test_a_partition_that_comes_says_nothing() -> None:
    pace = Pace(THROTTLE)
    pace.measure(0.0, {})
    pace.measure(1.0, {0: 1_760_000_000_000})
    assert pace.hold == THROTTLE


def test_who_holds_nothing_back_never_does() -> None:
    pace = Pace(0)
    pace.measure(0.0, {0: 0})
    pace.measure(1.0, {0: 3_600_000})
    assert pace.hold == 0
