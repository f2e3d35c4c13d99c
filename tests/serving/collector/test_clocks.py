"""Wrong clocks are corrected; the time on the way is not taken for one."""

import random

from hypothesis import given
from hypothesis import strategies as st

from streamgauge.serving.collector.clocks import AHEAD_MS, TRANSIT_MS, Clocks

HOUR = 3_600_000


@given(ways=st.lists(st.integers(0, TRANSIT_MS), min_size=1, max_size=20))
def test_a_right_clock_is_never_corrected_whatever_the_way(ways: list[int]) -> None:
    clocks = Clocks()
    for number, way in enumerate(ways):
        sent = 10 * HOUR + number * 60_000
        assert clocks.correction("a", sent, sent + way) == 0


@given(
    skew=st.integers(-100 * HOUR, 100 * HOUR).filter(
        lambda skew: skew < -TRANSIT_MS - AHEAD_MS or skew > TRANSIT_MS
    ),
    ways=st.lists(st.integers(0, TRANSIT_MS), min_size=1, max_size=20),
)
def test_a_wrong_clock_is_corrected_by_its_skew_and_the_shortest_way(
    skew: int, ways: list[int]
) -> None:
    """skew: how far it is behind."""
    clocks = Clocks()
    for number, way in enumerate(ways):
        arrived = 200 * HOUR + number * 60_000
        correction = clocks.correction("a", arrived - way - skew, arrived)
        assert correction == skew + min(ways[: number + 1])


def test_a_slow_way_does_not_move_the_events_of_a_wrong_clock() -> None:
    clocks, random_ways = Clocks(), random.Random(1)
    sent, ahead = 10 * HOUR, 2 * HOUR
    corrections = set()
    for number in range(50):
        way = 40 if number == 0 else random_ways.randrange(40, 20_000)
        sent += 60_000
        corrections.add(clocks.correction("a", sent, sent - ahead + way))
    assert corrections == {-ahead + 40}


def test_a_clock_that_is_set_is_a_new_one() -> None:
    clocks = Clocks()
    assert clocks.correction("a", 10 * HOUR, 11 * HOUR) == HOUR
    assert clocks.correction("a", 11 * HOUR, 11 * HOUR + 50) == 0
    assert clocks.correction("a", 13 * HOUR, 11 * HOUR) == -2 * HOUR


def test_clients_have_clocks_of_their_own_and_are_forgotten() -> None:
    clocks = Clocks(most=10)
    for number in range(100):
        clocks.correction(str(number), 0, HOUR)
    assert len(clocks) == 10
    assert clocks.correction("b", HOUR, HOUR) == 0
