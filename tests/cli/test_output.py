"""Tables and JSON lines, and a bar on terminals only."""

import io

import pytest

from streamgauge.cli import output
from streamgauge.cli.progress import bar

ROWS = [{"the_name": "one", "count": 1, "note": None}, {"the_name": "two", "count": 22, "note": ""}]


def test_a_table_is_aligned_and_empty_cells_are_empty(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(ROWS, ("the_name", "count", "note"), as_json=False)
    assert capsys.readouterr().out == "the name  count  note\none       1\ntwo       22\n"


def test_json_is_one_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(ROWS[:1], ("the_name",), as_json=True)
    assert capsys.readouterr().out == '{"the_name": "one", "count": 1, "note": null}\n'


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_is_for_terminals(monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    class Out(io.StringIO):
        def isatty(self) -> bool:
            return terminal

    out = Out()
    monkeypatch.setattr("sys.stderr", out)
    with bar("reading", 10) as advance:
        advance(5)
    assert ("reading" in out.getvalue()) is terminal
