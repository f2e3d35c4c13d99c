"""What a run did and what held: for people (report.md), and for programs (report.json).

Upstream: `run`. Downstream: files in the report folder, and the command's output. Invariant: a
report says how to do the same again.
"""

import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from streamgauge.cli.chaos.schedule import Fault
from streamgauge.cli.chaos.standing import Recovery

PROMISES = {
    "I1": "input set = output set, no duplicate",
    "I2": "order within a partition",
    "I3": "a read_committed reader sees neither aborted nor torn results",
    "I4": "state = a replay of the log",
    "I5": "Postgres and Redis = an independent recomputation",
    "I6": "nothing hangs, no transaction stays open",
    "I7": "recovery time is bounded",
}


@dataclass(kw_only=True)
class Injected:
    """A fault as it was carried out; times are seconds since the first event."""

    fault: Fault
    began: float
    lag: int
    ended: float = 0.0
    outcome: str = ""
    recovery: Recovery | None = None

    @property
    def recovered(self) -> float | None:
        """Seconds from its end until commits moved again; None: they did not."""
        return self.recovery.seconds if self.recovery else None

    def as_dict(self) -> dict[str, Any]:
        """Flat, for the report."""
        return {
            **asdict(self.fault),
            "began": round(self.began, 1),
            "ended": round(self.ended, 1),
            "lag": self.lag,
            "outcome": self.outcome,
            "recovered": None if self.recovered is None else round(self.recovered, 1),
        }


@dataclass(frozen=True, kw_only=True)
class Invariant:
    """One of design's invariants: what was looked at, and what spoke against it."""

    name: str
    evidence: str
    broken: Sequence[str] = ()

    @property
    def holds(self) -> bool:
        return not self.broken


@dataclass(kw_only=True)
class Report:
    """One run."""

    seed: int
    command: str
    parameters: dict[str, Any]
    seconds: float = 0.0
    injected: list[Injected] = field(default_factory=list)
    invariants: list[Invariant] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    verified: str = ""
    replayed: str = ""

    @property
    def ok(self) -> bool:
        """Every invariant holds."""
        return all(one.holds for one in self.invariants)

    def as_dict(self) -> dict[str, Any]:
        """Everything, for report.json."""
        return {
            "ok": self.ok,
            "seed": self.seed,
            "command": self.command,
            "parameters": self.parameters,
            "seconds": round(self.seconds, 1),
            "invariants": [
                {"name": one.name, "holds": one.holds, **asdict(one)} for one in self.invariants
            ],
            "recovery": dict(_recoveries(self.injected)),
            "schedule": [one.as_dict() for one in self.injected],
            "figures": self.figures,
            "verified": self.verified,
            "replayed": self.replayed,
        }

    def text(self) -> str:
        """The invariants and the verdict, for the terminal."""
        lines = []
        for one in self.invariants:
            lines.append(f"{one.name}  {'holds ' if one.holds else 'BROKEN'}  {one.evidence}")
            lines += [f"            {what}" for what in one.broken]
        verdict = "nothing was lost, nothing doubled" if self.ok else "BROKEN"
        return "\n".join([*lines, f"{verdict} ({self.seconds:.0f} s, seed {self.seed})"])

    def write(self, folder: Path) -> None:
        """report.md and report.json."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_text(json.dumps(self.as_dict(), indent=1) + "\n")
        (folder / "report.md").write_text(self._markdown())

    def _markdown(self) -> str:
        verdict = "All invariants hold." if self.ok else "**An invariant is broken.**"
        parts = [
            f"# Chaos, seed {self.seed}\n\n{verdict} {self.seconds:.0f} s. Again, with the same "
            f"faults at the same places:\n\n    {self.command}\n",
            "## Invariants\n",
            _table(
                ("", "promise", "", "evidence"),
                (
                    (
                        one.name,
                        PROMISES[one.name],
                        "holds" if one.holds else "**broken**",
                        "<br>".join([one.evidence, *one.broken]),
                    )
                    for one in self.invariants
                ),
            ),
            "## Recovery\n\nSeconds from the end of a fault until commits moved again in every "
            "partition that had records before it.\n",
            _table(
                ("fault", "how many", "median", "longest"),
                (
                    (kind, found["count"], found["median"], found["longest"])
                    for kind, found in _recoveries(self.injected)
                ),
            ),
            "## Faults\n\nTimes are seconds since the first event.\n",
            _table(
                ("at event", "from", "to", "fault", "outcome", "lag before", "recovered after"),
                (
                    (
                        f"{one.fault.at:,}",
                        f"{one.began:.1f}",
                        f"{one.ended:.1f}",
                        one.fault,
                        one.outcome,
                        f"{one.lag:,}",
                        "never" if one.recovered is None else f"{one.recovered:.1f} s",
                    )
                    for one in self.injected
                ),
            ),
            "## Figures\n",
            _table(("", ""), ((key.replace("_", " "), it) for key, it in self.figures.items())),
            f"## verify\n\n```\n{self.verified}\n```\n",
            f"## Replay\n\n```\n{self.replayed}\n```\n",
        ]
        return "\n".join(parts)


def _recoveries(injected: Iterable[Injected]) -> list[tuple[str, dict[str, Any]]]:
    by_kind: dict[str, list[float]] = {}
    for one in injected:
        known = by_kind.setdefault(one.fault.kind, [])
        if one.recovered is not None:
            known.append(one.recovered)
    return [
        (
            kind,
            {
                "count": sum(one.fault.kind == kind for one in injected),
                "median": round(statistics.median(known), 1) if known else None,
                "longest": round(max(known), 1) if known else None,
            },
        )
        for kind, known in sorted(by_kind.items())
    ]


def _table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"
