import itertools
from collections import Counter

import pytest

from streamgauge.producers.simulator.anomalies import default_anomalies

HOUR_MS = 3_600_000
EVENTS = 60_000


@pytest.fixture(scope="module")
def planned(start):
    return {
        anomaly.kind: anomaly for anomaly in default_anomalies(start, start + 6 * HOUR_MS, EVENTS)
    }


@pytest.fixture(scope="module")
def events(take, planned):
    return take(EVENTS, anomalies=list(planned.values()))


@pytest.fixture
def during(events, planned):
    """The events within an anomaly, or in as long a time shortly before it."""

    def select(kind, before=False):
        anomaly = planned[kind]
        span = anomaly.end_ms - anomaly.start_ms
        shift = 2 * span if before else 0
        return [
            event
            for event in events
            if anomaly.start_ms <= event["timestamp"] + shift < anomaly.end_ms
            and event["event_type"] == anomaly.event_type
        ]

    return select


def test_intervals_do_not_overlap(planned):
    spans = sorted((anomaly.start_ms, anomaly.end_ms) for anomaly in planned.values())
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(spans))


def test_a_spike_multiplies_its_type(during, planned):
    assert len(during("spike")) > 2.5 * len(during("spike", before=True))
    assert planned["spike"].affected == pytest.approx(len(during("spike")) / 4, abs=5)


def test_a_drop_leaves_a_tenth(during, planned):
    before = len(during("drop", before=True))
    assert len(during("drop")) < 0.25 * before
    assert planned["drop"].affected > 0.6 * before


def test_errors_come_in_a_burst(during, planned):
    failed = [event for event in during("errors") if event["status"] >= 500]
    assert len(failed) / len(during("errors")) == pytest.approx(0.4, abs=0.12)
    assert planned["errors"].affected == pytest.approx(len(failed), abs=2)
    assert sum(event["status"] >= 500 for event in during("errors", before=True)) <= 2


def test_requests_are_slow_for_a_while(during):
    def mean(events):
        return sum(event["duration_ms"] for event in events) / len(events)

    assert mean(during("slow")) == pytest.approx(6 * mean(during("slow", before=True)), rel=0.4)


def test_a_bot_views_regularly_and_only_in_its_time(events, planned):
    bot = planned["bot"]
    times = [event["timestamp"] for event in events if event.get("user_id") == bot.user_id]
    assert len(times) == bot.affected == pytest.approx(EVENTS * 0.005, rel=0.05)
    assert bot.start_ms <= times[0] <= times[-1] < bot.end_ms
    gaps = Counter(later - sooner for sooner, later in itertools.pairwise(times))
    assert max(gaps) - min(gaps) <= 1


def test_repeated_events_have_ids_of_their_own(events):
    assert len({event["event_id"] for event in events}) == len(events)
