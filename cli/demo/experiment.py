"""The demo's experiment: its true effect is known, and its interval is seen to close in on it.

Upstream: the simulated world, whose treated users score 5 points more in every quiz; the table
experiment_results. Downstream: `view.py` and the result.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from streamgauge.cli.settings import Settings
from streamgauge.producers.simulator.experiments import QUIZ_HINTS
from streamgauge.schemas import control
from streamgauge.schemas.codec import Codec
from streamgauge.schemas.envelope import now_ms
from streamgauge.schemas.experiments import Experiment, load_experiment
from streamgauge.schemas.registry import open_registry

DEFINITION = Path(__file__).with_name("quiz-hints.yaml")
METRIC = "quiz_score"
TRUE_EFFECT = QUIZ_HINTS.effect

LOOKS = """
    SELECT users, lift_absolute, ci_sequential_low, ci_sequential_high
    FROM {schema}.experiment_results
    WHERE experiment = 'quiz-hints' AND metric = 'quiz_score' AND is_control IS FALSE
      AND ci_sequential_low IS NOT NULL
    ORDER BY as_of"""

WIDTH = 48
_LEAST, _GREATEST = TRUE_EFFECT - 15, TRUE_EFFECT + 15


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the experiment said at a time; the interval holds at every look."""

    users: int
    lift: float
    low: float
    high: float

    @property
    def covers(self) -> bool:
        return self.low <= TRUE_EFFECT <= self.high

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "true_effect": TRUE_EFFECT, "covers": self.covers}

    def text(self) -> str:
        """One line."""
        return (
            f"experiment quiz-hints: {self.lift:+.1f} points, {self.low:+.1f} to {self.high:+.1f} "
            f"at every look (true: {TRUE_EFFECT:+.1f}), {self.users:,} treated users"
        )


def begin(settings: Settings) -> None:
    """Start it, as `streamgauge experiments create quiz-hints.yaml --start` does."""
    definition = load_experiment(DEFINITION)
    running = Experiment(definition=definition, state="running", started_at=now_ms(), version=1)
    control.publish(
        {"bootstrap.servers": settings.need("kafka")},
        settings.namespace,
        Codec(open_registry(settings.need("registry"))),
        running.control(),
        transactional=settings.transactional,
    )


def looks_of(rows: Sequence[tuple[Any, ...]]) -> list[Look]:
    """Rows of LOOKS."""
    return [Look(users=users, lift=lift, low=low, high=high) for users, lift, low, high in rows]


def intervals(looks: Sequence[Look], lines: int = 5) -> list[str]:
    """Some looks from the first to the last, each a line around the true effect (┆)."""
    step = max(1, -(-len(looks) // lines))
    chosen = list(looks[::-1][::step][::-1])
    return [f"{interval(look)}  {look.lift:+5.1f}  {look.users:,} users" for look in chosen]


def interval(look: Look) -> str:
    """From low to high, with the lift (●)."""
    cells = [" "] * WIDTH
    low, high = _place(look.low), _place(look.high)
    cells[low : high + 1] = "─" * (high + 1 - low)
    cells[low], cells[high] = "├", "┤"
    cells[_place(TRUE_EFFECT)] = "┆"
    cells[_place(look.lift)] = "●"
    return "".join(cells)


def _place(value: float) -> int:
    share = (min(max(value, _LEAST), _GREATEST) - _LEAST) / (_GREATEST - _LEAST)
    return round(share * (WIDTH - 1))
