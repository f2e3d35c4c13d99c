"""The demo's view: a screen on a terminal, lines elsewhere."""

import io

import pytest
from rich.console import Console

from streamgauge.cli.demo import view
from streamgauge.cli.demo.figures import Figures, Flagged
from streamgauge.cli.demo.view import View, line, screen, sparkline

FIGURES = Figures(
    events=12_000,
    page_views=4_000,
    active_users=321,
    click_through_rate=0.0231,
    late=12,
    rejected=3,
    pages=[("/pricing", 400), ("/docs", 300)],
    per_minute=[1, 5, 10],
    moves=[("u-17", "explorer", True, "exploration_share = 0.4"), ("u-9", "new", False, "gone")],
    flags=[
        Flagged(
            severity="red",
            series="error_rate",
            detector="threshold:error_rate",
            observed=35.7,
            expected=5.0,
            begun="05:08",
            cleared=cleared,
            all=2,
            lasting=1,
        )
        for cleared in ("05:19", None)
    ],
    lags={"worker": 1_234},
)


def shown(console: Console, *parts: object) -> str:
    with console.capture() as capture:
        console.print(*parts)
    return capture.get()


def test_the_screen_has_every_figure() -> None:
    console = Console(width=100, force_terminal=True, color_system=None)
    text = shown(console, screen("Demo", "sending", 13_000, 20_000, 950.4, FIGURES))
    for figure in (
        "950",
        "12,000",
        "4,000",
        "321",
        "2.31%",
        "/pricing",
        "1,234",
        "13,000",
        "▂▅█",
        "→ explorer  u-17  exploration_share = 0.4",
        "← new       u-9   gone",
        "2 anomalies, 1 of them last",
        "error_rate threshold:error_rate: 35.7 for 5, 05:08, cleared 05:19",
        "error_rate threshold:error_rate: 35.7 for 5, 05:08, lasts",
        "sending",
    ):
        assert figure in text
    before = shown(console, screen("Demo", "sending", 0, None, 0, Figures()))
    assert "click-through   -" in before


def test_a_line_says_the_same_in_logs() -> None:
    text = line(12.3, "sending", 13_000, 950.4, FIGURES)
    assert "12.3 s  sending: 13,000 sent, 12,000 counted (950/s), 4,000 page views" in text
    assert "behind: worker 1,234; u-17 → explorer (exploration_share = 0.4)" in text


def test_without_a_terminal_a_line_comes_every_few_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = [0.0]
    monkeypatch.setattr(view.time, "monotonic", lambda: clock[0])
    out = io.StringIO()
    with View("Demo", None, Console(file=out)) as shown:
        for second in range(12):
            clock[0] = float(second)
            shown.update("sending", second, Figures(events=second * 100))
        shown.say("done")
    assert out.getvalue().count("counted (100/s)") == 2
    assert out.getvalue().endswith("done\n")


def test_on_a_terminal_the_screen_is_live() -> None:
    out = io.StringIO()
    with View("Demo", 10, Console(file=out, force_terminal=True, width=100)) as shown:
        shown.update("sending", 5, FIGURES)
    assert "/pricing" in out.getvalue()


def test_a_sparkline_scales_to_its_greatest_value() -> None:
    assert sparkline([0, 50, 100]) == "▁▅█"
    assert sparkline([]) == sparkline([0, 0]) == ""
