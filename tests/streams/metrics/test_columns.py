"""The derived fields, as `schemas.metric_fields.DERIVED` says, and what counts as observed."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from streamgauge.schemas.metric_fields import DERIVED
from streamgauge.streams.metrics.columns import derived, needed, observed, scaled

DAY = 86_400_000
DTYPES = {
    "page_url": pl.String,
    "timestamp": pl.Int64,
    "published_at": pl.Int64,
    "status": pl.Int64,
    "error_type": pl.String,
    "action": pl.String,
    "position_ms": pl.Float64,
    "duration_ms": pl.Float64,
}


@pytest.mark.parametrize(
    ("field", "given", "value"),
    [
        ("page", {"page_url": "/a/b?c=d#e"}, "/a/b"),
        ("page", {"page_url": "/é#x?y"}, "/é"),
        ("page", {"page_url": "?"}, ""),
        ("page", {"page_url": "/plain"}, "/plain"),
        ("page", {}, None),
        ("content_age_days", {"timestamp": 30 * DAY, "published_at": 1}, 29),
        ("content_age_days", {"timestamp": 30 * DAY, "published_at": 0}, 30),
        ("content_age_days", {"timestamp": 0, "published_at": 1}, -1),
        ("content_age_days", {"timestamp": 0}, None),
        ("is_error", {"status": 500}, True),
        ("is_error", {"status": 499}, False),
        ("is_error", {"status": 200, "error_type": "timeout"}, True),
        ("is_error", {"error_type": "timeout"}, True),
        ("is_error", {}, False),
        ("watched_hours", {"action": "complete", "position_ms": 1.8e6, "duration_ms": 3.6e6}, 0.5),
        ("watched_hours", {"action": "complete", "duration_ms": 3.6e6}, 1.0),
        ("watched_hours", {"action": "skip", "position_ms": 0.9e6, "duration_ms": 3.6e6}, 0.25),
        ("watched_hours", {"action": "skip", "duration_ms": 3.6e6}, None),
        ("watched_hours", {"action": "progress", "position_ms": 3.6e6}, None),
        ("watched_hours", {"position_ms": 3.6e6}, None),
    ],
)
def test_derived_fields_are_what_their_meaning_says(
    field: str, given: dict[str, Any], value: Any
) -> None:
    frame = pl.DataFrame({name: [given.get(name)] for name in DTYPES}, schema=DTYPES)
    assert frame.select(derived([field]))[field].to_list() == [value]


def test_every_derived_field_is_computed_from_what_it_needs() -> None:
    for name, field in DERIVED.items():
        [expression] = derived([name])
        assert set(expression.meta.root_names()) - {"timestamp"} == set(field.needs)
        assert needed([name, "os"]) == {*field.needs, "os"}


@pytest.mark.parametrize(
    ("kind", "values", "numbers"),
    [
        (
            "float",
            [0.1, None, 0.0000005, 0.0000015, -2.5, 9e9, 9.1e9],
            [100_000, 0, 2, -2_500_000, 9 * 10**15],
        ),
        ("int", [3, None, 2**53, 2**53 + 2, -(2**53) - 2], [3, 2**53]),
        ("bool", [True, None, False], [1, 0]),
    ],
)
def test_observations_become_integers_and_what_is_absent_or_too_large_is_none(
    kind: Any, values: list[Any], numbers: list[int]
) -> None:
    seen, value = observed("x", kind)
    found = pl.DataFrame({"x": values}).select(seen.alias("seen"), value.alias("value"))
    kept = found.filter("seen")["value"].to_numpy()
    assert scaled(kept).tolist() == numbers
