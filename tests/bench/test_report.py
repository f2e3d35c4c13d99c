"""RESULTS.md as it is made of results.json."""

import xml.etree.ElementTree as ElementTree

from bench import plot, report
from bench.measure import Measurement
from bench.race import slope
from bench.rows import Figure, Row

ROWS = (
    Row(
        name="streamgauge",
        figures={
            "CPU": Figure(value=2.25, unit="µs", at_most=2.5),
            "rows/s": Figure(value=51_234, at_least=60_000),
        },
        right=True,
    ),
    Row(
        name="peer",
        figures={"CPU": Figure(value=450.4, unit="µs")},
        facts={"emits": "every event"},
        right=False,
    ),
)


def results() -> report.Results:
    rows = [row.to_dict() for row in ROWS]
    return {
        "b1": {"title": "sums", "method": "how", "machine": "2 cores", "plot": "CPU", "rows": rows}
    }


def test_a_table_has_every_figure_and_fact_that_any_row_has() -> None:
    assert report.table(results()["b1"]["rows"]).splitlines() == [
        "|  | CPU | rows/s | emits | answer |",
        "|---|---|---|---|---|",
        "| streamgauge | 2.25 | 51,234 |  | right |",
        "| peer | 450 |  | every event | **WRONG** |",
    ]


def test_goals_say_what_was_reached() -> None:
    assert report.goals(results()).splitlines()[2:] == [
        "| b1 | streamgauge | CPU | ≤ 2.5 µs | 2.25 | yes |",
        "| b1 | streamgauge | rows/s | ≥ 60,000 | 51,234 | **no** |",
    ]


def test_a_note_stands_in_its_benchmarks_section() -> None:
    document = report.document(results(), {"b1": "What the profile shows.\n", "b2": "Not run."})
    assert document.index("## b1: sums") < document.index("What the profile shows.")
    assert "Not run." not in document


def test_a_chart_is_xml_with_a_bar_for_each_value_and_a_bound() -> None:
    chart = plot.bars("CPU & more", {"ours <1>": 2.0, "theirs": 40.0}, 2.5)
    root = ElementTree.fromstring(chart)
    kinds = [element.tag.rpartition("}")[2] for element in root]
    assert (kinds.count("rect"), kinds.count("path")) == (3, 1)  # the background is one
    widths = [float(element.get("width", 0)) for element in root.iter() if "rect" in element.tag]
    assert widths[2] == 20 * widths[1]


def test_what_start_up_costs_is_not_in_the_slope() -> None:
    def run(events: int) -> Measurement:
        cpu = 5 + events * 3e-6
        return Measurement(events=events, cpu_s=cpu, wall_s=1, startup_cpu_s=1, peak_rss_mb=1)

    assert round(slope(run(1_000_000), run(2_000_000)), 6) == 3
