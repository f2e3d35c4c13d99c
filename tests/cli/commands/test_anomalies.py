"""`anomalies`: a file through the detectors, and the alert levels."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

Run = Callable[..., Result]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Ten days of noise by the hour with one spike, in all shapes of rows that are accepted."""
    values = np.random.default_rng(1).normal(50, 2, 240).round(2).tolist()
    values[230] = 400.0
    lines = [f"{1_700_000_000 + 3600 * at},{value}" for at, value in enumerate(values)]
    lines[10] = f"{1_700_000_000_000 + 3_600_000 * 10},{values[10]}"  # milliseconds
    lines[11] = f"2023-11-15T09:13:20Z,{values[11]}"
    lines[12] = f"2023-11-15 11:13:20+01:00,{values[12]}"
    lines[20] = lines[20].partition(",")[0] + ","  # empty
    lines[30] = lines[29]  # twice the same time
    lines[40] = lines[35]  # back in time
    path = tmp_path / "series.csv"
    path.write_text("timestamp,value\n" + "\n".join(lines) + "\n")
    return path


def points(run: Run, *line: str) -> list[dict[str, Any]]:
    output = run("anomalies", "detect", "--json", *line).stdout
    return [json.loads(text) for text in output.splitlines()]


def test_there_is_a_line_a_row_and_the_spike_is_flagged(run: Run, file: Path) -> None:
    lines = points(run, "--file", str(file))
    assert len(lines) == 240
    assert [at for at, line in enumerate(lines) if line["flag"]][:1] == [230]
    assert lines[230]["detector"] == "spike" and lines[230]["score"] > 0.3
    assert lines[230]["changes"][0]["observed"] == 400
    skipped = {at: line["skipped"] for at, line in enumerate(lines) if "skipped" in line}
    assert skipped == {20: "empty", 30: "duplicate", 40: "out of order"}


def test_without_json_it_is_a_table_of_flags(run: Run, file: Path) -> None:
    result = run("anomalies", "detect", "--file", str(file))
    head, row = result.stdout.splitlines()[:2]
    assert head.split()[:4] == ["start", "end", "detector", "severity"]
    assert row.split()[2] == "spike"
    assert "1 rows left out: duplicate" in result.stderr


def test_a_state_goes_on_where_it_was_saved(run: Run, file: Path, tmp_path: Path) -> None:
    whole = points(run, "--file", str(file))
    head, *rows = file.read_text().splitlines()
    parts = []
    for name, part in (("a.csv", rows[:231]), ("b.csv", rows[231:])):
        (tmp_path / name).write_text("\n".join([head, *part]) + "\n")
        parts += points(run, "--file", str(tmp_path / name), "--state", str(tmp_path / "state"))
    assert parts == whole
    (tmp_path / "state").write_text("{}")
    refused = run(
        "anomalies", "detect", "--file", str(file), "--state", str(tmp_path / "state"), exit_code=1
    )
    assert "not a saved state" in refused.output


def test_a_series_is_held_to_the_level_of_its_signal(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "cpu.csv"
    path.write_text("timestamp,value\n0,50\n60,85\n120,97\n180,50\n")
    lines = points(run, "--file", str(path), "--signal", "cpu")
    assert [line["severity"] for line in lines] == [None, "yellow", "red", None]
    wrong = run("anomalies", "detect", "--file", str(path), "--signal", "cpus", exit_code=2)
    assert "no signal cpus: there are response_p95" in wrong.output


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ("time,value\n1,2\n", "bad.csv:1: the columns"),
        ("timestamp,value\n1,2\n2,many\n", "bad.csv:3: "),
        ("timestamp,value\nyesterday,2\n", "bad.csv:2: "),
        ("timestamp,value\n1e20,2\n", "bad.csv:2: not a time"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(
    run: Run, tmp_path: Path, content: str, place: str
) -> None:
    (tmp_path / "bad.csv").write_text(content)
    refused = run("anomalies", "detect", "--file", "bad.csv", exit_code=1)
    assert place in refused.output


def test_levels_are_listed(run: Run) -> None:
    assert "> 300 ms for 5 min" in run("anomalies", "levels").output
    rows = run("anomalies", "levels", "--preset", "shop", "--json").output.splitlines()
    shop = {row["signal"]: row for row in map(json.loads, rows)}
    assert shop["error_rate"]["red"] == {"value": 10, "seconds": 0}
