"""Single things a user does, as behaviour is made of them.

Upstream: random numbers, a user. Downstream: `behaviour.py`. What yields, yields (timestamp,
event type, fields) in order of time.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from random import Random
from typing import Any

from streamgauge.producers.simulator.content import DAY_MS, GENRES, QUERIES, pick
from streamgauge.producers.simulator.experiments import QUIZ_HINTS
from streamgauge.producers.simulator.users import User

SECOND = 1000
MINUTE = 60_000

# Means that make all sessions together last 12 minutes; sessions with playback last as long
# as their episodes.
MEAN_STAY_MS = 9.4 * MINUTE
LONGEST_STAY_MS = 90 * MINUTE

Action = tuple[int, str, dict[str, Any]]


def quiz_score(random: Random, user: User) -> float:
    """Points of 100; hints add their effect, and no score is cut off by them."""
    score = 90 * random.betavariate(1 + 6 * user.skill, 3)
    if user.treated(QUIZ_HINTS.experiment_id):
        score += QUIZ_HINTS.effect
    return round(score, 1)


def stay(random: Random) -> int:
    return int(min(random.expovariate(1 / MEAN_STAY_MS), LONGEST_STAY_MS))


def pause(random: Random, seconds: float) -> int:
    """Some milliseconds, `seconds` in the mean."""
    return int(random.expovariate(1 / (seconds * SECOND))) + 1


def genre(random: Random, user: User, familiar: bool) -> str:
    return random.choice(user.genres if familiar else GENRES)


def exposure(user: User, experiment_id: str, now: int) -> Iterator[Action]:
    variant = user.variants.get(experiment_id)
    if variant:
        yield now, "experiment_exposure", {"experiment_id": experiment_id, "variant": variant}


def request(
    random: Random, method_name: str, route: str, duration_ms: float | None = None
) -> dict[str, Any]:
    chance = random.random()
    status = 200
    error = None
    if chance < 0.0008:
        status, error = 500, "internal"
    elif chance < 0.02:
        status, error = 404, None
    return {
        "method_name": method_name,
        "route": route,
        "status": status,
        "duration_ms": round(duration_ms or random.lognormvariate(4.0, 0.6), 1),
        "response_size_bytes": int(random.lognormvariate(9, 1)),
        "cache_hit": random.random() < 0.82,
        "error_type": error,
        "context": [{"key": "region", "value": "eu-1"}] if error else None,
    }


def search(random: Random, now: int, page: str) -> Iterator[Action]:
    query = pick(random, QUERIES)
    found = 0 if random.random() < 0.06 else random.randint(1, 400)
    yield now, "search", {"page_url": page, "query": query, "results_count": found}
    yield now + 15, "request", request(random, "search.query", "/api/search")


def task(random: Random, now: int) -> Generator[Action, None, int]:
    """A task's life; returns when it ended."""
    task = {
        "page_url": "/tasks",
        "task_id": f"task-{random.getrandbits(32):08x}",
        "priority": random.choice(("low", "medium", "high")),
        "due_date": now + random.randint(-2, 14) * DAY_MS,
    }
    yield now, "task_update", {**task, "action": "created", "task_status": "todo"}
    if random.random() < 0.7:
        now += pause(random, 30)
        yield now, "task_update", {**task, "action": "status", "task_status": "in_progress"}
        if random.random() < 0.8:
            now += pause(random, 60)
            yield now, "task_update", {**task, "action": "completed", "task_status": "done"}
    return now


def reaction(random: Random, item_id: str, content_type: str, now: int) -> Iterator[Action]:
    if random.random() < 0.3:
        yield (
            now,
            "content_interaction",
            {
                "content_id": item_id,
                "content_type": content_type,
                "action": random.choice(("like", "like", "like", "comment", "share", "save")),
                "session_duration": pause(random, 30) / SECOND,
            },
        )
    if random.random() < 0.08:
        yield now + 500, "rating", {"item_id": item_id, "score": random.randint(1, 5)}
