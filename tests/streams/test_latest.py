"""A table of which the latest wins, against a dict."""

from collections.abc import Sequence

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from streamgauge.streams import latest
from streamgauge.streams.latest import Latest
from streamgauge.streams.metrics.runs import Run

Change = dict[int, list[int]]


def put(table: Latest, change: Change) -> Latest:
    key = np.array([k for k, values in change.items() for _ in values], np.uint64)
    value = np.array([v for values in change.values() for v in values], np.int64)
    keys = np.array(sorted(change), np.uint64)
    return table.put(keys, Run(key=key, columns=(value,)), len(table.find(keys)[0]))


def found(table: Latest, keys: Sequence[int]) -> Change:
    which, (values,) = table.find(np.array(keys, np.uint64))
    rows: Change = {}
    for place, value in zip(which.tolist(), values.tolist(), strict=True):
        rows.setdefault(keys[place], []).append(value)
    return {key: sorted(values) for key, values in rows.items()}


CHANGE = st.dictionaries(st.integers(0, 9), st.lists(st.integers(0, 99), max_size=3), max_size=5)


@settings(max_examples=100, deadline=None)
@given(changes=st.lists(CHANGE, max_size=12), few=st.sampled_from([0, 5, 10_000]))
def test_a_key_has_the_rows_that_it_was_given_last(changes: list[Change], few: int) -> None:
    before, latest._FEW = latest._FEW, few
    try:
        table, expected = Latest.of(np.int64), {}
        for change in changes:
            old, was = table, dict(expected)
            table = put(table, change)
            expected |= {key: sorted(values) for key, values in change.items()}
            expected = {key: values for key, values in expected.items() if values}
            assert found(table, range(10)) == expected
            assert found(old, range(10)) == was
    finally:
        latest._FEW = before
    odd = table.where(lambda columns: columns[0] % 2 == 1)
    assert sorted(odd.columns[0].tolist()) == sorted(
        value for values in expected.values() for value in values if value % 2
    )
    assert len(table.compacted()) == sum(map(len, expected.values()))


def test_what_is_replaced_goes_in_the_end() -> None:
    table = Latest.of(np.int64)
    keys = np.arange(20_000, dtype=np.uint64)
    for number in range(10):
        table = table.put(
            keys, Run(key=keys, columns=(np.full(len(keys), number),)), len(table.find(keys)[0])
        )
    assert len(table) <= 2 * len(keys)
    table = table.put(keys, Run(key=keys[:0], columns=(np.zeros(0, np.int64),)), len(keys))
    assert len(table.compacted()) == 0
    some = put(table, {1: [5], 2: [6]}).keep(lambda columns: columns[0] == 6)
    assert found(some, range(3)) == {2: [6]}
