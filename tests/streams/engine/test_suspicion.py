"""Narrowing down to the record to blame."""

from streamgauge.streams.engine.suspicion import Suspicion


def blame(records, poison, enough=1000):
    """Play transactions over a log until it is through; gives what was dead-lettered."""
    suspicion, position, letters, rounds = Suspicion(), 0, [], 0
    while position < records:
        rounds += 1
        assert rounds < 500
        size = min(suspicion.limit or enough, records - position)
        batch = range(position, position + size)
        if not poison & set(batch):
            suspicion.succeeded(enough)
            position += size
        elif suspicion.failed(size) == "dead_letter":
            letters.append(position)
            position += 1
    return letters, rounds


def test_one_poison_record_among_many_is_found_and_nothing_else():
    letters, rounds = blame(1000, {617})
    assert letters == [617]
    assert rounds < 40


def test_neighbouring_poison_records_are_found_one_by_one():
    assert blame(1000, {10, 11, 12, 999})[0] == [10, 11, 12, 999]


def test_three_tries_come_before_halving():
    suspicion = Suspicion()
    assert [suspicion.failed(100) for _ in range(3)] == ["retry", "retry", "halve"]
    assert suspicion.limit == 50


def test_success_forgets():
    suspicion = Suspicion()
    suspicion.failed(100)
    suspicion.succeeded(1000)
    assert suspicion.failures == 0
    assert suspicion.limit is None
