from collections import Counter

import pytest

from streamgauge.producers.simulator.users import PLATFORM_WEIGHTS, PLATFORMS, user_of


def test_a_user_is_the_same_whenever_looked_at():
    assert user_of(1, 42) == user_of(1, 42)
    assert user_of(1, 42) != user_of(2, 42)


def test_a_population_is_mixed():
    users = [user_of(1, number) for number in range(3000)]
    assert len({user.user_id for user in users}) == len({user.anonymous_id for user in users})
    platforms = Counter(user.platform for user in users)
    for platform, weight in zip(PLATFORMS, PLATFORM_WEIGHTS, strict=True):
        assert platforms[platform] / 30 == pytest.approx(weight, abs=3)
    assert {user.devices[0]["device_type"] for user in users} == {
        "mobile",
        "tablet",
        "desktop",
        "tv",
    }


def test_consent_to_analytics_is_given_denied_or_not_said():
    said = Counter(user_of(1, number).envelope["consent_analytics"] for number in range(2000))
    assert said[True] > said[None] > said[False] > 0
