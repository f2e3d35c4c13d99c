"""How long a worker waits from one commit to the next."""

import pytest

from streamgauge.streams.engine.consumer import LONGEST, SHARE, pause


@pytest.mark.parametrize(
    ("interval", "taken", "expected"),
    [
        (0.1, 0.0, 0.1),
        (0.1, 0.02, 0.1),
        (0.1, 0.05, 0.05 / SHARE),
        (0.1, 5.0, LONGEST),
        (2.0, 0.0, 2.0),
        (2.0, 5.0, 2.0),
    ],
)
def test_commits_are_fewer_where_they_take_long(
    interval: float, taken: float, expected: float
) -> None:
    assert pause(interval, taken) == pytest.approx(expected)
