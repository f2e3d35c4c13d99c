"""How far from its forecast a value usually is."""

from streamgauge.streams.anomalies.scale import Scale

HOUR = 3600.0


def scale(residuals: list[float], value: float = 100.0) -> Scale:
    made = Scale(step=HOUR)
    for at, residual in enumerate(residuals):
        made.add(at * HOUR, residual, value)
    return made


def test_an_outlier_hardly_widens_it() -> None:
    quiet = [1.0, -1] * 60
    assert scale([*quiet, 1e6]).at(0) < 1.2 * scale([*quiet, 1]).at(0)


def test_hours_of_the_day_differ() -> None:
    made = scale([10.0 if 8 <= at % 24 < 20 else 1.0 for at in range(24 * 30)])
    assert made.at(12 * HOUR) > 1.5 * made.at(2 * HOUR)


def test_a_constant_series_is_not_infinitely_sure() -> None:
    assert scale([0.0] * 100, value=45.0).at(0) > 0.01
    assert scale([0.0] * 100, value=0.0).at(0) > 0
