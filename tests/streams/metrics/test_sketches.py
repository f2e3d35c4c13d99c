"""Distinct users: one number for one set of users, and how far it may be off."""

from __future__ import annotations

import random

import numpy as np
import pytest

from streamgauge.streams.metrics.sketches import (
    Place,
    Sketches,
    estimate,
    marked,
    of_users,
    with_users,
)

PLACE = Place(0, "1h", 0, "12345678", "{}")


def number(*portions: list[str]) -> int:
    sketches: Sketches = {}
    for portion in portions:
        sketches = with_users(sketches, [(PLACE, of_users(portion))])
    return estimate(sketches[PLACE])


@pytest.mark.parametrize("count", [0, 1, 1_000, 3_050, 3_200, 5_000, 20_000])
def test_the_estimate_follows_from_the_set_of_users(count: int) -> None:
    users = [f"user-{n}" for n in range(count)]
    at_once = number(users)
    for seed in range(4):
        shuffled = random.Random(seed).sample(users, count)
        third = count // 3
        portions = [shuffled[:third], shuffled[third // 2 :], shuffled[:7], shuffled]
        assert number(*portions) == at_once


def test_small_numbers_are_exact() -> None:
    for count in (1, 10, 500):
        assert number([f"{n}" for n in range(count)]) == count


def test_99_of_100_estimates_are_within_two_percent() -> None:
    errors = []
    for seed in range(120):
        count = 4_000 + 37 * seed
        errors.append(abs(number([f"{seed}-{n}" for n in range(count)]) - count) / count)
    assert np.percentile(errors, 99) <= 0.02


def test_flags_are_set_on_copies() -> None:
    before = with_users({}, [(PLACE, of_users(["a"]))])
    after = marked(before, [PLACE], emitted=True)
    assert (before[PLACE].emitted, after[PLACE].emitted, after[PLACE].saved) == (False, True, False)
    assert with_users(after, [(PLACE, of_users(["b"]))])[PLACE].emitted is False
