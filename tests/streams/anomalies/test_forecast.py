"""Who speaks: what was closest lately."""

import math
import random

from streamgauge.streams.anomalies.forecast import NEAR, USUAL, Forecast

HOUR = 3600.0


def told(values: list[float]) -> tuple[Forecast, dict[str, float]]:
    forecast = Forecast.begun(HOUR)
    for at, value in enumerate(values):
        forecast.add(at * HOUR, value, forecast.predictions(at * HOUR))
    return forecast, forecast.predictions(len(values) * HOUR)


def test_a_daily_rhythm_is_expected_once_it_was_seen() -> None:
    forecast, said = told([20 if at % 24 in (9, 10, 11) else 5 for at in range(9 + 24 * 6)])
    assert forecast.best(NEAR, said) == forecast.best(USUAL, said) == 20


def test_without_rhythm_the_seasons_stay_silent() -> None:
    random.seed(1)
    walk = [0.0]
    for _ in range(600):
        walk.append(walk[-1] + random.gauss(0, 1))
    forecast, said = told(walk)
    assert forecast.best(NEAR, said) == walk[-1]


def test_a_weekly_rhythm_is_known_after_two_weeks() -> None:
    def value(at: int) -> float:
        weekend = at // 24 % 7 >= 5
        return 3.0 if weekend else 50 + 30 * math.sin(at / 24 * 2 * math.pi)

    saturday = 24 * (7 * 5 + 5)
    forecast, said = told([value(at) for at in range(saturday)])
    assert said["week"] == 3.0 and said["day"] > 20
    assert forecast.best(USUAL, said) == 3.0


def test_the_usual_level_does_not_follow_a_shift_at_once() -> None:
    forecast, said = told([10.0] * 200 + [30.0] * 3)
    assert forecast.best(USUAL, said) == 10
    forecast, said = told([10.0] * 200 + [30.0] * 40)
    assert forecast.best(USUAL, said) == 30
