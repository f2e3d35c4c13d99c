"""One incident is told once."""

from streamgauge.streams.anomalies.flag import Flag
from streamgauge.streams.anomalies.incident import LONGEST, QUIET, Incident

HOUR = 3600.0
YELLOW, RED = 0.3, 3.0


def told(scores: list[float], step: float = HOUR) -> list[tuple[str, float, float | None]]:
    incident = Incident()
    changes = []
    for at, score in enumerate(scores):
        candidate = Flag(
            detector="spike",
            severity="yellow",
            start=at * step,
            expected=0.0,
            observed=0.0,
            score=score,
        )
        changes += incident.judge(candidate, YELLOW, RED)
    return [
        (one.severity, one.start / step, None if one.end is None else one.end / step)
        for one in changes
    ]


def test_a_flag_opens_and_clears_itself() -> None:
    #            .  .  #  #  .
    assert told([0, 0, 1, 1, 0, 0]) == [("yellow", 2, None), ("yellow", 2, 4)]


def test_a_score_about_the_threshold_is_one_flag() -> None:
    assert len(told([0, 0.4, 0.2, 0.4, 0.2, 0.4])) == 1


def test_it_gets_worse_in_the_same_flag() -> None:
    assert told([0, 1, 4, 2, 0]) == [("yellow", 1, None), ("red", 1, None), ("red", 1, 4)]


def test_what_lasts_is_the_new_usual_and_not_told_again() -> None:
    assert told([1.0] * (3 * LONGEST)) == [("yellow", 0, None), ("yellow", 0, LONGEST)]


def test_after_it_only_what_is_ten_times_rarer_opens_another_within_the_day() -> None:
    assert len(told([1, 0, 1.5, 0])) == 2
    assert told([1, 0, 2.5])[2:] == [("yellow", 2, None)]
    quiet = [0.0] * int(QUIET / HOUR)
    assert told([1, 0, *quiet, 1])[2:] == [("yellow", 2 + len(quiet), None)]
