"""Token buckets, on a clock of the test's own."""

from streamgauge.serving.collector.rates import BURST_SECONDS, Buckets


def test_a_bucket_lets_its_rate_through_and_a_burst_before() -> None:
    buckets, taken = Buckets(), 0
    for now in range(100):
        while not buckets.wait("a", 10, now):
            buckets.charge("a", 10, 1, now)
            taken += 1
    assert abs(taken - 10 * (99 + BURST_SECONDS)) <= 1


def test_it_says_how_long_to_wait() -> None:
    buckets = Buckets()
    buckets.charge("a", 10, 150, 0)  # 50 more than it holds
    assert buckets.wait("a", 10, 0) == 5
    assert buckets.wait("a", 10, 4) == 1
    assert buckets.wait("a", 10, 5.1) == 0


def test_a_batch_larger_than_the_bucket_passes_once() -> None:
    buckets = Buckets()
    assert buckets.wait("a", 1, 0) == 0
    buckets.charge("a", 1, 1000, 0)
    assert buckets.wait("a", 1, 0) == 990


def test_names_do_not_share_and_no_rate_is_no_limit() -> None:
    buckets = Buckets()
    buckets.charge("a", 1, 1000, 0)
    assert buckets.wait("b", 1, 0) == 0
    buckets.charge("c", 0, 1000, 0)
    assert buckets.wait("c", 0, 0) == 0


def test_it_forgets_the_longest_unused() -> None:
    buckets = Buckets(most=100)
    for number in range(1000):
        buckets.charge(str(number), 1, 1000, 0)
    assert len(buckets) == 100
    assert buckets.wait("0", 1, 0) == 0
    assert buckets.wait("999", 1, 0) > 0
