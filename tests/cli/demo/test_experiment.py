from streamgauge.cli.demo.experiment import DEFINITION, Look, interval, intervals, looks_of
from streamgauge.schemas.experiments import load_experiment


def look(lift: float, half: float, users: int = 10) -> Look:
    return Look(users=users, lift=lift, low=lift - half, high=lift + half)


def test_the_definition_is_correct_and_named_as_in_the_simulated_world() -> None:
    definition = load_experiment(DEFINITION)
    assert definition.name == "quiz-hints"
    assert definition.allocation == 0.5


def test_an_interval_lies_around_the_true_effect() -> None:
    assert interval(look(8, 6)).strip() == "├────┆───●─────────┤"
    assert interval(look(5, 99)) == "├" + "─" * 23 + "●" + "─" * 22 + "┤"
    assert look(8, 6).covers and not look(8, 2).covers


def test_the_last_look_is_always_shown_and_never_more_than_five() -> None:
    looks = [look(5, 10 - n / 2, n) for n in range(13)]
    lines = intervals(looks)
    assert len(lines) <= 5
    assert lines[-1].endswith("12 users")
    assert intervals([]) == []


def test_a_look_is_one_line_and_one_object() -> None:
    (one,) = looks_of([(412, 4.75, 2.5, 7.0)])
    assert one.text() == (
        "experiment quiz-hints: +4.8 points, +2.5 to +7.0 at every look (true: +5.0), "
        "412 treated users"
    )
    assert one.as_dict()["covers"] is True
