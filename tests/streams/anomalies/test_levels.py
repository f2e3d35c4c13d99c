"""Thresholds with a duration."""

from streamgauge.streams.anomalies.flag import Flag
from streamgauge.streams.anomalies.levels import PRESETS, Breach, Level

MINUTE = 60.0
Told = tuple[str, float, float | None]


def told(level: Level, values: list[float]) -> list[Told]:
    breach, changes = Breach(), list[Flag]()
    for minute, value in enumerate(values):
        changes += breach.judge(level, minute * MINUTE, value)
    return [
        (one.severity, one.start / MINUTE, None if one.end is None else one.end / MINUTE)
        for one in changes
    ]


RESPONSE = PRESETS["default"]["response_p95"]


def test_it_opens_after_the_duration_with_the_time_it_began() -> None:
    #                     0   1   |-- five minutes -------|   7
    assert told(RESPONSE, [90, 90, *[310] * 6, 90]) == [("yellow", 2, None), ("yellow", 2, 8)]
    assert told(RESPONSE, [90, 90, *[310] * 5, 90]) == []


def test_a_value_within_begins_the_count_anew() -> None:
    assert told(RESPONSE, [*[310] * 4, 90] * 5) == []


def test_yellow_becomes_red_in_the_same_flag() -> None:
    values = [*[310] * 6, *[600] * 3, *[310] * 2, 90]
    assert told(RESPONSE, values) == [("yellow", 0, None), ("red", 0, None), ("red", 0, 11)]


def test_red_lasts_less_long_than_yellow_needs() -> None:
    assert told(RESPONSE, [600, 600, 600]) == [("red", 0, None)]


def test_below_and_at_once() -> None:
    assert told(PRESETS["default"]["reachable"], [1, 0, 1]) == [("red", 1, None), ("red", 1, 2)]
    assert told(PRESETS["default"]["cpu"], [80, 80.1, 96]) == [
        ("yellow", 1, None),
        ("red", 1, None),
    ]


def test_red_is_further_out_than_yellow_in_every_preset() -> None:
    for preset in PRESETS.values():
        for level in preset.values():
            assert level.yellow or level.red
            if level.yellow and level.red:
                assert level.beyond(level.yellow, level.red.value)
                assert level.red.seconds <= level.yellow.seconds
