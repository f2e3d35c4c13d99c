"""Missing data."""

from streamgauge.streams.anomalies.absence import Absence
from streamgauge.streams.anomalies.flag import Flag

MINUTE = 60.0


def after(minutes: list[float]) -> tuple[Absence, list[Flag]]:
    absence = Absence()
    return absence, [flag for at in minutes for flag in absence.came(at * MINUTE)]


def test_silence_is_flagged_while_it_lasts_once_and_clears_with_the_next_value() -> None:
    #  | | | ... |            x        x        |
    #  0 1 2     29         35.5      36       40
    absence, flags = after(list(range(30)))
    assert flags == [] and absence.wait(34 * MINUTE) == []
    (opened,) = absence.wait(35.5 * MINUTE)
    assert (opened.start, opened.severity, opened.end) == (30 * MINUTE, "yellow", None)
    assert absence.wait(36 * MINUTE) == []
    (cleared,) = absence.came(40 * MINUTE)
    assert (cleared.start, cleared.end) == (30 * MINUTE, 40 * MINUTE)


def test_a_gap_that_nobody_waited_for_is_opened_and_cleared_by_the_next_value() -> None:
    _, flags = after([*range(30), 60])
    assert [flag.end for flag in flags] == [None, 60 * MINUTE]


def test_long_silence_becomes_red() -> None:
    absence, _ = after(list(range(30)))
    assert [absence.wait(at * MINUTE)[0].severity for at in (40, 100)] == ["yellow", "red"]


def test_an_irregular_series_is_given_its_usual_gaps() -> None:
    # A gap of 8 minutes after each tenth point: the first is news, the others are not.
    times = [at + 8.0 * (at // 10) for at in range(100)]
    _, flags = after(times)
    assert {flag.start for flag in flags} == {times[19] * MINUTE + MINUTE}
