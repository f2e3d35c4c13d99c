"""Numbers in place of texts and keys."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from streamgauge.streams.metrics.keys import of_strings
from streamgauge.streams.metrics.numbers import Numbers, numbered


def test_known_texts_have_their_places_as_numbers_and_others_none() -> None:
    texts = of_strings(pl.Series(["b", None, "c", "a", "b"]))
    assert Numbers(["a", "b"]).of(texts).tolist() == [1, -1, -1, 0, 1]
    assert Numbers([]).of(texts).tolist() == [-1] * 5


@pytest.mark.parametrize(
    ("rows", "distinct", "step"),
    [
        (0, 1, 1),
        (9, 3, 1),
        (3_000, 40, 1),
        (70_000, 70_000, 1),
        (5_000, 900, 2**16),  # all share the first slot
        (5_000, 900, 2**48),  # and all the next ones
    ],
)
def test_rows_of_one_key_have_one_number_and_a_row_stands_for_each(
    rows: int, distinct: int, step: int
) -> None:
    random = np.random.default_rng(rows)
    keys = random.integers(0, distinct, rows).astype(np.uint64) * np.uint64(step)
    one, number = numbered(keys)
    assert sorted(keys[one].tolist()) == np.unique(keys).tolist()
    assert (keys[one][number] == keys).all()
