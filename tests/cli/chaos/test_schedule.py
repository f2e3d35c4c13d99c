"""Schedules: the seed decides everything, and a full run has all that it promises."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamgauge.cli.chaos.faults import FAULTS
from streamgauge.cli.chaos.schedule import KINDS, SINKS, WORKERS, schedule
from streamgauge.cli.stack.proxy import ApiKey
from streamgauge.schemas import faultpoint

FULL = {"events": 500_000, "rate": 1500.0}


@given(st.integers(0, 10_000), st.integers(1_000, 600_000))
def test_a_seed_makes_one_schedule_in_order_and_within_the_run(seed: int, events: int) -> None:
    made = schedule(seed, events, 1500.0)
    assert made == schedule(seed, events, 1500.0)
    places = [fault.at for fault in made]
    assert places == sorted(places)
    assert 0 < places[0] <= places[-1] < 0.98 * events
    assert {fault.kind for fault in made} == set(KINDS)


def test_another_seed_makes_another_one() -> None:
    assert schedule(1, **FULL) != schedule(2, **FULL)


@pytest.mark.parametrize("seed", range(20))
def test_a_full_run_has_every_fault_that_is_promised(seed: int) -> None:
    made = schedule(seed, **FULL)
    assert Counter(fault.kind for fault in made) == {
        "kill": 30,
        "bounce": 5,
        "stop": 3,
        "commit-loss": 6,
        "rebalance": 1,
        "network": 4,
        "postgres": 2,
        "redis": 2,
        "redis-loss": 1,
    }
    by_kind = {kind: [f for f in made if f.kind == kind] for kind in KINDS}
    assert {f.how for f in by_kind["bounce"]} == {"SIGTERM", "SIGKILL"}
    assert {f.how for f in by_kind["commit-loss"]} == {"delay", "drop", "drop and close"}
    assert [f.seconds for f in by_kind["stop"]] == [20.0] * 3
    assert {name for f in by_kind["stop"] for name in f.target.split()} == {*WORKERS, *SINKS}
    assert by_kind["rebalance"][0].seconds == 60.0
    assert {f.how.partition(" ")[0] for f in by_kind["network"]} == {"latency", "partition,"}


def test_what_a_schedule_names_exists() -> None:
    made = [fault for seed in range(200) for fault in schedule(seed, **FULL)]
    points = {f.how for f in made if f.kind == "kill"} - {"any moment"}
    assert points <= set(faultpoint.POINTS)
    assert {f.target for f in made if f.kind == "commit-loss"} <= set(ApiKey.__members__)
    assert set(FAULTS) == set(KINDS)


def test_only_what_is_asked_for() -> None:
    assert {fault.kind for fault in schedule(1, 15_000, 1000.0, ["kill", "redis"])} == {
        "kill",
        "redis",
    }
