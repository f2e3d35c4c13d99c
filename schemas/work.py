"""Which agents there are, which class of work each is of, and in which consumer group they run.

Upstream: `worker --agents`. Downstream: the worker, and whoever asks how far it is. A worker runs
all real-time agents in one group. A subset of agents runs in a group of its own, so that slow work
never delays other work: it has its own positions, transactions and pace.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from streamgauge.schemas.errors import WorkError

CLASSES = (
    "realtime",
    "analytics",
    "ml",
    "reports",
    "maintenance",
    "compliance",
    "monitoring",
)
AGENTS: Mapping[str, str] = {
    "source": "realtime",
    "merge": "realtime",
    "results": "realtime",
    "anomalies": "realtime",
}
"""Agent → class."""

GROUP = "streamgauge-worker"


def of_class(work: str) -> tuple[str, ...]:
    """Its agents."""
    return tuple(agent for agent, of in AGENTS.items() if of == work)


def chosen(names: Iterable[str]) -> tuple[str, ...]:
    """The agents that these names of agents and classes mean; all real-time ones for no names."""
    names = list(names) or ["realtime"]
    wanted: set[str] = set()
    for name in names:
        found = (name,) if name in AGENTS else of_class(name)
        if not found:
            known = "; ".join(f"{of}: {', '.join(of_class(of)) or 'none yet'}" for of in CLASSES)
            what = "no agents of class" if name in CLASSES else "no agent or class"
            raise WorkError(f"there is {what} {name!r}; there are {known}")
        wanted.update(found)
    return tuple(agent for agent in AGENTS if agent in wanted)


def group(agents: tuple[str, ...]) -> str:
    """The group that a worker with these agents is in."""
    for work in CLASSES:
        if agents == of_class(work):
            return GROUP if work == "realtime" else f"{GROUP}-{work}"
    return "-".join((GROUP, *agents))
