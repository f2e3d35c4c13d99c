"""results.json, and RESULTS.md and the plots made of it.

Each benchmark's last run stays until it is run again, so a narrowed run changes only what it
measured. Pure but for `save`.
"""

import json
from collections.abc import Mapping
from typing import Any

from bench import plot
from bench.context import HERE

Results = dict[str, Any]
"""Benchmark → its title, method, machine and rows, as in results.json."""

_DATA = HERE / "results.json"


def load() -> Results:
    """What was measured before."""
    return json.loads(_DATA.read_text()) if _DATA.exists() else {}


def save(results: Results) -> None:
    """Write results.json, RESULTS.md and the plots."""
    _DATA.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    notes = {path.stem: path.read_text() for path in (HERE / "notes").glob("*.md")}
    (HERE / "RESULTS.md").write_text(document(results, notes))
    (HERE / "plots").mkdir(exist_ok=True)
    for name, result in results.items():
        if result["plot"]:
            (HERE / "plots" / f"{name}.svg").write_text(chart(result))


def document(results: Results, notes: Mapping[str, str]) -> str:
    """RESULTS.md."""
    parts = [
        "# Benchmark results",
        "Written by `make bench`, on a real Kafka on the same machine. Each section says when and "
        "where it was measured; a narrowed run (`--only`) replaces its own sections.",
        "## Goals\n\n" + goals(results),
    ]
    for name, result in results.items():
        parts.append(f"## {name}: {result['title']}\n\n{result['machine']}\n\n{result['method']}")
        parts.append(table(result["rows"]))
        if result["plot"]:
            parts.append(f"![{result['plot']}](plots/{name}.svg)")
        if name in notes:
            parts.append(notes[name].strip())
    return "\n\n".join(parts) + "\n"


def goals(results: Results) -> str:
    """Every figure that has a goal, in one table."""
    lines = ["| benchmark | of | figure | goal | measured | reached |", "|---|---|---|---|---|---|"]
    for name, result in results.items():
        for row in result["rows"]:
            for figure, its in row["figures"].items():
                if "goal" not in its:
                    continue
                goal = f"{its['goal']} {its['unit']}".strip()
                verdict = "yes" if its["reached"] else "**no**"
                cells = [name, row["name"], figure, goal, _number(its["value"]), verdict]
                lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def table(rows: list[dict[str, Any]]) -> str:
    """The rows of one benchmark; columns are what any of them has, in the order of meeting."""
    figures = list(dict.fromkeys(name for row in rows for name in row["figures"]))
    facts = list(dict.fromkeys(name for row in rows for name in row["facts"]))
    answers = any(row["right"] is not None for row in rows)
    head = ["", *figures, *facts, *(["answer"] if answers else [])]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [row["name"]]
        cells += [
            _number(row["figures"][name]["value"]) if name in row["figures"] else ""
            for name in figures
        ]
        cells += [row["facts"].get(name, "") for name in facts]
        if answers:
            cells.append({True: "right", False: "**WRONG**", None: ""}[row["right"]])
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def chart(result: Mapping[str, Any]) -> str:
    """The figure to plot of each row that has it."""
    figure = result["plot"]
    drawn = [row for row in result["rows"] if figure in row["figures"]]
    bars = {row["name"]: row["figures"][figure]["value"] for row in drawn}
    bounds = [row["figures"][figure].get("at_most") for row in drawn]
    bound = next((each for each in bounds if each is not None), None)
    return plot.bars(f"{figure}: {result['title']}", bars, bound)


def _number(value: float) -> str:
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) >= 1 else f"{value:.2g}"
