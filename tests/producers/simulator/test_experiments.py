from collections import Counter, defaultdict
from random import Random

import pytest

from streamgauge.producers.simulator.actions import quiz_score
from streamgauge.producers.simulator.behaviour import CLICK_RATE, feed
from streamgauge.producers.simulator.content import Content
from streamgauge.producers.simulator.experiments import EXPERIMENTS, FEED_RANKING, QUIZ_HINTS
from streamgauge.producers.simulator.users import user_of


@pytest.fixture(scope="module")
def users():
    return [user_of(1, number) for number in range(6000)]


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda e: e.experiment_id)
def test_arms_are_equal_and_fill_the_allocation(experiment):
    arms = Counter(experiment.variant(f"user-{number:07d}") for number in range(20_000))
    for arm in ("control", "treatment"):
        assert arms[arm] / 20_000 == pytest.approx(experiment.allocation / 2, rel=0.08)


def test_experiments_assign_independently_of_each_other():
    hints = Counter(
        QUIZ_HINTS.variant(user)
        for user in (f"user-{number:07d}" for number in range(40_000))
        if FEED_RANKING.variant(user) == "treatment"
    )
    assert hints["treatment"] / hints.total() == pytest.approx(0.25, abs=0.03)


def test_the_feed_experiment_has_its_effect_on_clicks(users):
    random = Random(5)
    content = Content(1)
    seen = defaultdict(Counter)
    # The same few users again and again: what counts is the arm.
    for arm in ("control", "treatment"):
        exposed = [u for u in users if u.variants.get(FEED_RANKING.experiment_id) == arm][:50]
        for n in range(2500):
            for _, event_type, _ in feed(random, content, exposed[n % 50], 1_760_000_000_000):
                seen[arm][event_type] += 1
    control, treatment = (
        seen[arm]["feed_click"] / seen[arm]["feed_view"] for arm in ("control", "treatment")
    )
    assert control == pytest.approx(CLICK_RATE, rel=0.06)
    assert treatment == pytest.approx(CLICK_RATE * (1 + FEED_RANKING.effect), rel=0.06)


def test_the_quiz_experiment_has_its_effect_on_scores(users):
    random = Random(5)
    scores = defaultdict(list)
    for user in users:
        for _ in range(3):
            scores[user.treated(QUIZ_HINTS.experiment_id)].append(quiz_score(random, user))
    treated, others = (sum(scores[arm]) / len(scores[arm]) for arm in (True, False))
    assert treated - others == pytest.approx(QUIZ_HINTS.effect, abs=1.2)
    assert max(scores[True]) <= 100
