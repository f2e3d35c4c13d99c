"""The simulated experiments, whose true effect is known.

Upstream: nothing. Downstream: `users.py` assigns variants, `behaviour.py` lets them have
their effect and reports exposures, `truth.py` writes the effects down.

Invariants: a user's variant depends on the experiment's name and the user's id alone; users
outside the allocation are never exposed and behave like `control`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from streamgauge.producers.assignment import assign

CONTROL = "control"
TREATMENT = "treatment"
ARMS = ((CONTROL, 0.5), (TREATMENT, 0.5))


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Two arms of equal weight; the outcome of treated users differs by `effect`.

    `relative`: the outcome's mean is multiplied by 1 + effect; `absolute`: effect is added.
    """

    experiment_id: str
    outcome: str
    effect: float
    kind: Literal["relative", "absolute"]
    allocation: float = 0.2

    def variant(self, user_id: str) -> str | None:
        """The user's arm, or None outside the allocation, as the SDK would say."""
        return assign(self.experiment_id, user_id, ARMS, self.allocation)


FEED_RANKING = Experiment(
    experiment_id="feed-ranking",
    outcome="feed clicks per feed view",
    effect=0.2,
    kind="relative",
)
QUIZ_HINTS = Experiment(
    experiment_id="quiz-hints",
    outcome="mean score of a quiz attempt, in points of 100",
    effect=5.0,
    kind="absolute",
    allocation=0.5,
)
PLAYER_THEME = Experiment(
    experiment_id="player-theme",
    outcome="binge sessions per session with playback",
    effect=0.0,
    kind="relative",
    allocation=0.5,
)
EXPERIMENTS = (FEED_RANKING, QUIZ_HINTS, PLAYER_THEME)
