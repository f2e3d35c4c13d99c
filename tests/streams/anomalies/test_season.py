"""What was usual at this time of the day."""

from streamgauge.streams.anomalies.season import Season


def season(days: list[list[float]]) -> Season:
    made = Season(24.0, 4.0, kept=3)  # six cells of four hours
    for day, values in enumerate(days):
        for cell, value in enumerate(values):
            made.add(24.0 * day + 4 * cell, value)
    return made


def test_the_first_period_expects_nothing() -> None:
    made = season([[1.0, 2, 3]])
    assert made.expected(12.0) is None


def test_one_odd_day_does_not_move_what_is_expected() -> None:
    flat = [5.0] * 6
    assert season([flat, [500.0] * 6, flat, flat[:1]]).expected(72.0 + 4) == 5.0


def test_a_step_beside_the_cell_does_not_blur_it() -> None:
    square = [0.0, 0, 0, 9, 9, 9]
    made = season([square, square, [0.0]])
    assert [made.expected(48.0 + 4 * cell) for cell in range(1, 5)] == [0, 0, 9, 9]


def test_the_present_is_not_in_its_own_expectation() -> None:
    made = season([[1.0] * 6, [1.0]])
    made.add(24.0 + 4, 100.0)
    assert made.expected(24.0 + 5) == 1.0


def test_memory_is_bounded() -> None:
    made = season([[float(day)] * 6 for day in range(50)])
    assert max(map(len, made.cells)) == 3
