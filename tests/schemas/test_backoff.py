import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from streamgauge.schemas.backoff import MAX_RETRY_AFTER_S, Backoff, retry_after_s


def test_pauses_double_up_to_a_bound_and_differ():
    backoff = Backoff(base_s=1.0, max_s=10.0, draw=random.Random(1))
    for failures, most in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 10), (500, 10)]:
        pauses = {backoff.delay(failures) for _ in range(50)}
        assert len(pauses) > 40
        assert all(most / 2 <= pause <= most for pause in pauses)


def test_what_the_receiver_asks_for_is_the_least():
    backoff = Backoff(base_s=1.0, max_s=10.0)
    assert all(60 <= backoff.delay(1, 60) <= 66 for _ in range(50))
    assert backoff.delay(9, 0) >= 5
    assert backoff.delay(1, 1e9) <= MAX_RETRY_AFTER_S * 1.1


NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120),
        ("0.5", 0.5),
        ("-3", 0),
        (format_datetime(NOW + timedelta(seconds=90), usegmt=True), 90),
        (format_datetime(NOW - timedelta(seconds=90), usegmt=True), 0),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header, seconds):
    assert retry_after_s(header, NOW.timestamp()) == seconds
