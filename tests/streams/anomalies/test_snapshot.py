"""State as JSON, and back."""

import json

from streamgauge.streams.anomalies.season import Season
from streamgauge.streams.anomalies.series import Rates, Series
from streamgauge.streams.anomalies.snapshot import restored, saved


def test_an_empty_and_a_full_state_come_back_equal() -> None:
    series = Series()
    assert restored(Series, saved(series)) == series
    for at in range(400):
        series.judge(at * 300.0, float(at % 7 + (at == 399) * 1000), Rates())
    assert series.incident.flag is not None
    assert restored(Series, json.loads(json.dumps(saved(series)))) == series


def test_what_is_saved_shares_nothing_with_what_goes_on() -> None:
    season = Season(24.0, 4.0, kept=3)
    content = saved(season)
    for at in range(30):
        season.add(4.0 * at, 1.0)
    assert restored(Season, content) == Season(24.0, 4.0, kept=3)
