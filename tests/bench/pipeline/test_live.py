"""A latency is the time from sending an event to the first look that counts it."""

from types import SimpleNamespace

import numpy as np

from bench.pipeline.live import _latencies
from bench.pipeline.traffic import Record


def records(kinds: str) -> list[Record]:
    return [Record(key=b"", value=b"", kind=kind, timestamp=0) for kind in kinds]


def test_the_nth_event_of_a_type_shows_when_its_counter_is_n() -> None:
    # sent:  a a b | a b        looks:  10   20   30
    #        0s    | 5s         a:       1    3
    #                           b:            1    2
    sending = SimpleNamespace(records=records("aabab"), done=5, times=[(0, 0.0), (3, 5.0)])
    watch = SimpleNamespace(
        looks=[10.0, 20.0, 30.0], counts={"a": [(0, 1), (1, 3)], "b": [(1, 1), (2, 2)]}
    )
    assert _latencies(sending, watch, began=0).tolist() == [10, 20, 20, 15, 25]
    assert _latencies(sending, watch, began=3).tolist() == [15, 25]


def test_what_never_shows_takes_for_ever() -> None:
    sending = SimpleNamespace(records=records("aab"), done=3, times=[(0, 0.0)])
    watch = SimpleNamespace(looks=[1.0], counts={"a": [(0, 1)]})
    assert _latencies(sending, watch, began=0).tolist() == [1, np.inf, np.inf]
