"""Gates: whether the allocation of a running experiment may rise to the next step of its schedule.

Upstream: the rows that `results.py` makes of a look. Downstream: `tasks.py` publishes what is
opened, as the command line would; `experiments results` says what holds it back.

    step    1 ──────── 2 ────────────────── 3      due: its day has come, and as many days have
            └ at start └ due, gates open    └ due    passed since the last step as between the two

Invariants: one step at a time; nothing is ever taken back (a breach that is to end the experiment
does so by stop_on_breach).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from streamgauge.schemas.experiment_definition import Amount, Gate
from streamgauge.schemas.experiments import DAY_MS, Experiment

Row = Mapping[str, Any]
BREACHED, OK = "breached", "ok"


@dataclass(frozen=True, kw_only=True)
class Ramp:
    """How far the allocation is."""

    allocation: float
    next_allocation: float | None
    """None on the last step."""
    due_at: int | None
    held: tuple[str, ...]
    """Why the next step, which is due, is not taken."""
    opened: Experiment | None
    """With the next step, if it is taken now."""


def ramp(experiment: Experiment, as_of: int, rows: Sequence[Row]) -> Ramp | None:
    """Of a running experiment with gates; None for others."""
    definition, gates = experiment.definition, experiment.definition.gates
    if gates is None or experiment.started_at is None or experiment.state != "running":
        return None
    allocation = experiment.allocation_at(as_of)
    if experiment.opened >= len(definition.schedule):
        return Ramp(allocation=allocation, next_allocation=None, due_at=None, held=(), opened=None)
    last, step = definition.schedule[experiment.opened - 1 : experiment.opened + 1]
    due_at = experiment.started_at + int((step.day - 1) * DAY_MS)
    if experiment.opened_at is not None:
        due_at = max(due_at, experiment.opened_at + int((step.day - last.day) * DAY_MS))
    is_due = as_of >= due_at
    held = tuple(_held(experiment, rows)) if is_due else ()
    opened = None
    if is_due and not held:
        opened = replace(
            experiment,
            opened=experiment.opened + 1,
            opened_at=as_of,
            version=experiment.version + 1,
        )
    return Ramp(
        allocation=allocation,
        next_allocation=step.allocation,
        due_at=due_at,
        held=held,
        opened=opened,
    )


def _held(experiment: Experiment, rows: Sequence[Row]) -> Iterator[str]:
    gates, weights = experiment.definition.gates, experiment.definition.weights
    if gates is None:
        return
    users = {row["variant"]: row["users"] for row in rows}
    for variant, weight in weights.items():
        if weight > 0 and users.get(variant, 0) < gates.users:
            yield f"{variant} has {users.get(variant, 0)} users, fewer than {gates.users}"
    split = next((row["srm_p"] for row in rows if row["srm_p"] is not None), None)
    if split is not None and split < gates.srm:
        yield f"the split is not the planned one (SRM p {split:.2g} < {gates.srm:g})"
    others = [row for row in rows if not row["is_control"] and weights[row["variant"]] > 0]
    for row in others:
        verdict = row["verdict"]
        if verdict == BREACHED or (verdict and gates.guardrails == OK != verdict):
            yield f"guardrail {row['metric']} of {row['variant']} is {verdict}"
    for gate in gates.metrics:
        yield from _missed(gate, (row for row in others if row["metric"] == gate.metric))


def _missed(gate: Gate, rows: Iterable[Row]) -> Iterator[str]:
    for row in rows:
        asked = gate.within or gate.at_least
        if asked is None:
            continue
        ends = _ends(row, asked, gate.sure)
        if ends is None:
            met, said = False, "cannot be told yet"
        else:
            low, high = ends
            met = low >= -asked.value and high <= asked.value if gate.within else low >= asked.value
            said = " to ".join(_said(end, asked) for end in dict.fromkeys(ends))
        if not met:
            bound = f"within {_said(asked.value, asked, '')}"
            if gate.at_least:
                bound = f"at least {_said(asked.value, asked)}"
            yield f"the lift of {gate.metric} of {row['variant']}, {said}, is not {bound}"


def _ends(row: Row, asked: Amount, sure: bool) -> tuple[float, float] | None:
    """The lift, or where it lies for certain."""
    lift = "lift_relative" if asked.relative else "lift_absolute"
    interval = "ci_relative_sequential" if asked.relative else "ci_sequential"
    names = (f"{interval}_low", f"{interval}_high") if sure else (lift, lift)
    low, high = (row.get(name) for name in names)
    return None if low is None or high is None else (low, high)


def _said(value: float, asked: Amount, sign: str = "+") -> str:
    return f"{100 * value:{sign}.3g} %" if asked.relative else f"{value:{sign}.4g}"
