"""Slots, sums and quantiles; quantiles against the ddsketch package and the exact ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
from ddsketch import DDSketch
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgauge.schemas.metrics import load_definitions
from streamgauge.streams.metrics.parts import (
    MAX,
    MIN,
    SUM,
    ZERO_BUCKET,
    Entries,
    bucket_of,
    bucket_slots,
    bucket_values,
    buckets,
    combined,
    grain_parts,
    pack,
    part_of,
    slot,
    unpack,
)
from streamgauge.streams.metrics.results import Results

QUANTILES = [0, 0.01, 0.5, 0.95, 0.99, 1]


def quantiles_of(values: np.ndarray) -> list[float]:
    """Through buckets and results, as rows of `metrics` have them."""
    text = f"""
extends: none
metrics:
  - name: t
    events: [request]
    aggregate: quantiles
    field: duration_ms
    quantiles: {QUANTILES}
"""
    grain = load_definitions(text).grains()[0]
    ones = np.ones(len(values), np.int64)
    slots = bucket_slots(0, buckets(values)).astype(np.uint32)
    entries = combined(Entries(np.zeros(len(values), np.int64), slots, ones))
    results = Results([grain])
    found = results.values(entries, np.zeros(1, np.int64), np.array([-1]))
    assert results.names[found.series].tolist() == [
        "t_p0",
        "t_p1",
        "t_p50",
        "t_p95",
        "t_p99",
        "t_p100",
    ]
    return found.numerator.tolist()


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(1).lognormal(4, 1, 5_000),
        np.random.default_rng(2).uniform(0, 1e6, 3_000),
        np.random.default_rng(3).pareto(1, 999) * 1e-3,
        np.array([5.0]),
        np.array([1.0, 2.0]),
    ],
)
def test_quantiles_are_within_one_percent_and_those_of_ddsketch(values: np.ndarray) -> None:
    reference = DDSketch(0.01)
    for value in values:
        reference.add(float(value))
    ordered = np.sort(values)
    for q, found in zip(QUANTILES, quantiles_of(values), strict=True):
        exact = ordered[math.floor(q * (len(values) - 1))]
        assert abs(found - exact) <= 0.01 * exact * (1 + 1e-9)
        assert found == pytest.approx(reference.get_quantile_value(q), rel=1e-6)


def test_nothing_and_less_count_as_zero() -> None:
    numbers = buckets(np.array([0.0, -5.0, 1e-9, 1e-8, 1.0]))
    assert (numbers == ZERO_BUCKET).tolist() == [True, True, True, False, False]
    assert bucket_values(numbers)[:3].tolist() == [0, 0, 0]
    assert quantiles_of(np.array([-1.0, 0.0, 3.0]))[2] == 0


@given(st.integers(0, 2), st.integers(0, 1023))
def test_a_slot_says_which_part_and_bucket(op: int, part: int) -> None:
    assert part_of(np.array([slot(op, part)])) == part
    numbers = np.array([ZERO_BUCKET, -1036, 0, 35_500])
    slots = bucket_slots(part, numbers)
    assert (part_of(slots) == part).all()
    assert (bucket_of(slots) == numbers).all()
    assert (slots < 2**30).all()


rows = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from([SUM, MIN, MAX]), st.integers(-9, 9)), max_size=30
)


@settings(deadline=None)
@given(rows)
def test_combining_adds_sums_and_keeps_extremes(given_rows: list[tuple[int, int, int]]) -> None:
    found = combined(
        Entries(
            np.array([row for row, _, _ in given_rows], np.int64),
            np.array([slot(op, op) for _, op, _ in given_rows], np.uint32),
            np.array([value for _, _, value in given_rows], np.int64),
        )
    )
    wanted: dict[tuple[int, int], list[int]] = {}
    for row, op, value in given_rows:
        wanted.setdefault((row, op), []).append(value)
    folds = {SUM: sum, MIN: min, MAX: max}
    keys = zip(found.row.tolist(), part_of(found.slot).tolist(), strict=True)
    assert list(zip(keys, found.value.tolist(), strict=True)) == [
        (key, folds[key[1]](values)) for key, values in sorted(wanted.items())
    ]
    packed = pack(found, 4)
    again = unpack(packed)
    assert [column.tolist() for column in again] == [column.tolist() for column in found]


def test_a_grain_has_each_part_once() -> None:
    grain = load_definitions(
        """
extends: none
metrics:
  - {name: a, events: [rating], aggregate: mean, field: score}
  - {name: b, events: [rating], aggregate: sum, field: score}
  - {name: c, events: [rating], aggregate: count}
"""
    ).grains()[0]
    assert [part.reads for part in grain_parts(grain)] == ["value", "seen", "one"]


def test_too_many_parts_are_refused() -> None:
    metrics = "\n".join(
        f"  - {{name: m{n}, aggregate: count, events: [rating], where: {{score: {n}}}}}"
        for n in range(1025)
    )
    grain = load_definitions(f"extends: none\nmetrics:\n{metrics}").grains()[0]
    with pytest.raises(ValueError, match="1024 parts"):
        grain_parts(grain)
