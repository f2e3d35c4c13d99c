from collections import Counter, defaultdict
from random import Random

import pytest

from streamgauge.producers.simulator.behaviour import RETURN_RATE
from streamgauge.producers.simulator.visits import (
    HOURS,
    MEAN_GAP_DAYS,
    SESSIONS_PER_DAY,
    Visits,
    weight_between,
)

DAY_MS = 86_400_000
HOUR_MS = 3_600_000
DAYS = 40
USERS = 4000


@pytest.fixture(scope="module")
def visits():
    """The visits of 40 days, as many a day as the users' habits give."""
    habits = Visits(Random(3), USERS, 0)
    gap = DAY_MS * MEAN_GAP_DAYS / USERS / SESSIONS_PER_DAY
    return [(int(n * gap), habits.next(int(n * gap))) for n in range(int(DAYS * DAY_MS / gap))]


def test_a_day_has_the_weight_of_one(start):
    assert sum(HOURS) == pytest.approx(24, abs=0.1)
    assert weight_between(start, start + DAY_MS) == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("cut", [0, 1, HOUR_MS - 1, HOUR_MS, 5 * HOUR_MS + 7])
def test_weights_add_up(start, cut):
    end = start + 9 * HOUR_MS
    whole = weight_between(start, start + cut) + weight_between(start + cut, end)
    assert whole == pytest.approx(weight_between(start, end))


def test_two_of_three_come_back_within_a_week(visits):
    days = defaultdict(set)
    for now, user in visits:
        days[now // DAY_MS].add(user)
    rates = [
        len(days[day] & set().union(*(days[day + n] for n in range(1, 8)))) / len(days[day])
        for day in range(DAYS - 8)
    ]
    assert sum(rates) / len(rates) == pytest.approx(RETURN_RATE, abs=0.03)


def test_the_first_days_are_as_busy_as_the_last(visits):
    users = defaultdict(set)
    for now, user in visits:
        users[now // DAY_MS].add(user)
    early = sum(len(users[day]) for day in range(5))
    late = sum(len(users[day]) for day in range(DAYS - 6, DAYS - 1))
    assert early == pytest.approx(late, rel=0.1)


def test_nobody_comes_twice_within_an_hour_while_others_can_come(visits):
    last = {}
    soon = 0
    for now, user in visits:
        soon += now - last.get(user, -DAY_MS) < HOUR_MS
        last[user] = now
    # What remains is midnight: a visit late on a day, and one early on the next.
    assert soon < 0.005 * len(visits)


def test_users_keep_to_their_part_of_the_day(visits):
    mornings = Counter(user % 4 for now, user in visits if 6 <= now // HOUR_MS % 24 < 11)
    assert mornings[0] > 1.5 * mornings[3]


def test_days_without_anybody_take_whom_there_is():
    lonely = Visits(Random(1), 1, 0)
    assert [lonely.next(now) for now in range(0, 30 * DAY_MS, DAY_MS)] == [0] * 30
