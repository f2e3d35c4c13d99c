from collections import Counter, defaultdict
from itertools import islice

import pytest

from streamgauge.producers.simulator.behaviour import BINGE_RATE, CLICK_RATE, SESSION_MINUTES
from streamgauge.producers.simulator.experiments import EXPERIMENTS
from streamgauge.producers.simulator.users import DENIED_SHARE
from streamgauge.producers.simulator.world import EVENTS_PER_SESSION
from streamgauge.schemas.events import EVENT_TYPES

HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def sessions(fortnight):
    """Events by session; those that the end of the world cut short are left out."""
    found = defaultdict(list)
    for event in fortnight:
        found[event["session_id"]].append(event)
    end = fortnight[-1]["timestamp"] - 2 * HOUR_MS
    return [events for events in found.values() if events[0]["timestamp"] < end]


def test_the_same_seed_gives_the_same_events(take):
    assert take() == take()


def test_another_seed_gives_others(take):
    ids = {event["event_id"] for event in take()}
    assert not ids & {event["event_id"] for event in take(seed=2)}


def test_ids_are_unique_and_of_their_time(fortnight):
    assert len({event["event_id"] for event in fortnight}) == len(fortnight)
    for event in fortnight[:1000]:
        assert int(event["event_id"].replace("-", "")[:12], 16) == event["timestamp"]


def test_every_event_is_one_that_its_type_accepts_as_it_is(fortnight):
    for event in fortnight[::7]:
        accepted = EVENT_TYPES[event["event_type"]](**event).model_dump(exclude_none=True)
        assert accepted == {
            name: tuple(value) if name in ("properties", "context") else value
            for name, value in event.items()
            if value is not None
        }


def test_every_type_happens(fortnight):
    assert {event["event_type"] for event in fortnight} == {
        name for name, cls in EVENT_TYPES.items() if cls.namespace == "streamgauge"
    }


def test_time_never_goes_back(fortnight):
    times = [event["timestamp"] for event in fortnight]
    assert times == sorted(times)


def test_the_events_fill_the_span(fortnight, start):
    span = 14 * 24 * HOUR_MS
    assert 0.98 < (fortnight[-1]["timestamp"] - start) / span < 1.02


def test_evenings_are_busier_than_nights(fortnight):
    hours = Counter(event["timestamp"] // HOUR_MS % 24 for event in fortnight)
    assert hours[20] > 4 * hours[3]


def test_a_steady_world_keeps_its_rate_from_the_first_minutes_on(take, start):
    minutes = Counter(
        (event["timestamp"] - start) // 60_000 for event in take(60_000, days=1 / 24, steady=True)
    )
    for minute in range(50):
        assert minutes[minute] == pytest.approx(1000, rel=0.25)


def test_baseline_of_click_through(fortnight):
    types = Counter(event["event_type"] for event in fortnight)
    assert types["feed_click"] / types["feed_view"] == pytest.approx(CLICK_RATE, rel=0.08)


def test_baseline_of_session_length(sessions):
    minutes = [(events[-1]["timestamp"] - events[0]["timestamp"]) / 60_000 for events in sessions]
    assert sum(minutes) / len(minutes) == pytest.approx(SESSION_MINUTES, rel=0.08)


def test_baseline_of_binges(sessions):
    completed = {}
    for events in sessions:
        played = [event for event in events if event["event_type"] == "playback"]
        if played:
            done = {e["episode"] for e in played if e["action"] == "complete"}
            completed[events[0]["session_id"]] = len(done)
    binges = sum(episodes >= 3 for episodes in completed.values())
    assert binges / len(completed) == pytest.approx(BINGE_RATE, abs=0.06)


def test_the_mean_number_of_events_in_a_session_is_known(sessions):
    mean = sum(map(len, sessions)) / len(sessions)
    assert mean == pytest.approx(EVENTS_PER_SESSION, rel=0.06)


def test_most_recommended_things_are_familiar(fortnight):
    shown = [event["exploration"] for event in fortnight if event["event_type"] == "feed_view"]
    assert sum(shown) / len(shown) == pytest.approx(0.2, abs=0.01)


def test_some_users_deny_consent_and_say_so_on_every_event(fortnight):
    consents = defaultdict(set)
    for event in fortnight:
        consents[event["user_id"] or event["anonymous_id"]].add(event["consent_analytics"])
    assert all(len(said) == 1 for said in consents.values())
    denied = sum(said == {False} for said in consents.values()) / len(consents)
    assert denied == pytest.approx(DENIED_SHARE, abs=0.02)


def test_who_logs_in_was_anonymous_before(fortnight):
    logins = {e["session_id"]: e for e in fortnight if e["event_type"] == "identify"}
    assert len(logins) > 100
    for event in fortnight:
        login = logins.get(event["session_id"])
        if login and event["timestamp"] < login["timestamp"]:
            assert event["user_id"] is None
            assert event["anonymous_id"] == login["anonymous_id"]


def test_a_users_variant_never_changes_and_is_the_experiments_own(fortnight):
    variants = {experiment.experiment_id: experiment.variant for experiment in EXPERIMENTS}
    exposures = [e for e in fortnight if e["event_type"] == "experiment_exposure"]
    assert {e["experiment_id"] for e in exposures} == set(variants)
    for event in exposures:
        assert event["variant"] == variants[event["experiment_id"]](event["user_id"])


def test_the_population_is_what_habits_need_unless_it_is_given(make_world):
    assert make_world(100_000, days=1).users > make_world(100_000, days=10).users
    assert make_world(10, days=10).users == 50
    assert make_world(users=7).users == 7


def test_few_users_can_be_very_busy(make_world):
    events = islice(make_world(5000, days=0.1, users=30).events(), 5000)
    assert 1 < len({event["user_id"] for event in events if event["user_id"]}) <= 30
