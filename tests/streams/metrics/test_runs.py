"""The immutable table, against a list of rows."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgauge.streams.metrics.runs import Run, Runs

Rows = list[tuple[int, int]]


def filled(batches: list[Rows]) -> Runs:
    runs = Runs(dtypes=(np.int64,))
    for batch in batches:
        keys = np.array([key for key, _ in batch], np.uint64)
        runs = runs.add(keys, np.array([value for _, value in batch], np.int64))
    return runs


batches_of_rows = st.lists(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 99)), max_size=12), max_size=12
)


@settings(deadline=None)
@given(batches_of_rows, st.lists(st.integers(0, 12), unique=True))
def test_finds_the_rows_of_each_key_oldest_first(batches: list[Rows], wanted: list[int]) -> None:
    rows = [row for batch in batches for row in batch]
    keys = np.array(sorted(wanted), np.uint64)
    which, (values,) = filled(batches).find(keys)
    found: dict[int, list[int]] = {key: [] for key in wanted}
    for number, value in zip(which.tolist(), values.tolist(), strict=True):
        found[int(keys[number])].append(value)
    assert found == {key: [v for k, v in rows if k == key] for key in wanted}
    assert filled(batches).has(keys).tolist() == [any(k == key for k, _ in rows) for key in keys]


@settings(deadline=None)
@given(batches_of_rows, st.integers(0, 99))
def test_keeps_and_selects_by_a_mask(batches: list[Rows], limit: int) -> None:
    def small(run: Run) -> np.ndarray:
        return run.columns[0] < limit

    rows = sorted(row for batch in batches for row in batch if row[1] < limit)
    runs = filled(batches)
    selected = runs.where(small)
    assert sorted(zip(selected.key.tolist(), selected.columns[0].tolist(), strict=True)) == rows
    kept = runs.keep(small)
    assert len(kept) == len(rows)
    assert sorted(kept.where(small).columns[0].tolist()) == sorted(value for _, value in rows)


def test_the_old_table_stays_as_it_was() -> None:
    old = filled([[(1, 10)], [(2, 20)]])
    new = old.add(np.array([1], np.uint64), np.array([11]))
    assert old.find(np.array([1], np.uint64))[1][0].tolist() == [10]
    assert new.find(np.array([1], np.uint64))[1][0].tolist() == [10, 11]


def test_there_are_few_runs_however_many_batches() -> None:
    assert len(filled([[(n, n)] for n in range(1000)]).runs) <= 10
