"""Orders of keys, against numpy's."""

import numpy as np
import pytest

from streamgauge.streams.metrics import keys


@pytest.fixture(params=["hashes", "of few", "alike but for their lowest bits"])
def some(request: pytest.FixtureRequest) -> np.ndarray:
    random = np.random.default_rng(5)
    high = 300 if request.param == "of few" else 2**63
    found = random.integers(0, high, 3 * keys._MANY).astype(np.uint64)
    if "bits" in request.param:
        found = found[0] + (found & np.uint64(15))
    return found


@pytest.mark.parametrize("count", [0, 1, 7, keys._MANY, 3 * keys._MANY])
def test_orders_are_stable_whatever_the_keys(some: np.ndarray, count: int) -> None:
    key = some[:count]
    assert keys.ordering(key).tolist() == np.argsort(key, kind="stable").tolist()
    _, first, number = np.unique(key, return_index=True, return_inverse=True)
    assert keys.once(key).tolist() == first.tolist()
    assert [found.tolist() for found in keys.numbered(key)] == [first.tolist(), number.tolist()]


@pytest.mark.parametrize("wrong", [0, 1, 400])
def test_of_a_key_another_order_follows(some: np.ndarray, wrong: int) -> None:
    then = np.arange(len(some)) // 5
    then[:: len(then) // wrong if wrong else len(then)] += wrong
    assert keys.ordering_by(some, then).tolist() == np.lexsort((then, some)).tolist()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 100, 3 * keys._MANY])
@pytest.mark.parametrize("kind", [np.uint64, np.int64])
def test_places_are_those_of_a_binary_search(some: np.ndarray, count: int, kind: type) -> None:
    known = np.sort(some[:count].astype(kind))
    ends = [np.iinfo(kind).min, np.iinfo(kind).max]
    asked = np.concatenate([known, known + kind(1), some[::-1].astype(kind), np.array(ends, kind)])
    found = keys.Buckets.of(known).places(asked)
    assert found.tolist() == np.searchsorted(known, asked).tolist()
    assert keys.among(asked, known).tolist() == np.isin(asked, known).tolist()


def test_hashes_are_found_by_their_first_bits() -> None:
    hashes = keys.mix(np.arange(50_000))
    assert keys.Buckets.of(np.sort(hashes)).starts is not None
    assert keys.Buckets.of(np.arange(50_000, dtype=np.uint64)).starts is None
