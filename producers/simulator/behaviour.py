"""What a user does in a session, on each of the four platforms.

Upstream: a user, the content and random numbers. Downstream: `world.py` merges the sessions
and adds the envelope. Each function yields (timestamp, event type, fields) in order of time.

Baselines (R2), for users outside the treatments: click-through 2.3 %, binge 45 % of sessions
with playback (three or more episodes of one series completed), mean session 12 minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

from streamgauge.producers.simulator.actions import (
    MINUTE,
    SECOND,
    Action,
    exposure,
    genre,
    pause,
    quiz_score,
    reaction,
    request,
    search,
    stay,
    task,
)
from streamgauge.producers.simulator.content import (
    COURSE_CONTENT,
    COURSES,
    PAGES,
    SECTIONS,
    Content,
    pick,
)
from streamgauge.producers.simulator.experiments import FEED_RANKING, PLAYER_THEME, QUIZ_HINTS
from streamgauge.producers.simulator.users import User

CLICK_RATE = 0.023
BINGE_RATE = 0.45
SESSION_MINUTES = 12.0
RETURN_RATE = 0.65
FAMILIAR_SHARE = 0.8

FEED_LENGTH = 8
# Clicks on familiar things and on new ones; weighted with their shares they make CLICK_RATE.
FAMILIAR_APPEAL = 1.1
NEW_APPEAL = 0.6

Platform = Callable[[Random, Content, User, int], Iterator[Action]]


def feed(random: Random, content: Content, user: User, now: int) -> Iterator[Action]:
    """Social feed: load it, look down, click now and then."""
    end = now + stay(random)
    yield from exposure(user, FEED_RANKING.experiment_id, now)
    rate = CLICK_RATE
    if user.treated(FEED_RANKING.experiment_id):
        rate *= 1 + FEED_RANKING.effect
    while now < end:
        cached = random.random() < 0.85
        took = random.lognormvariate(3.6 if cached else 4.9, 0.45)
        yield (
            now,
            "feed_generated",
            {
                "page_url": "/feed",
                "generation_time_ms": round(took, 1),
                "cache_hit": cached,
                "item_count": FEED_LENGTH,
                "personal_connections": 0.6,
                "interest_based": 0.4,
            },
        )
        if random.random() < 0.5:
            yield now + 5, "request", request(random, "feed.get", "/api/feed", took + 8)
        section = random.choice(SECTIONS)
        for position in range(FEED_LENGTH):
            now += pause(random, 11)
            familiar = random.random() < FAMILIAR_SHARE
            item = pick(random, content.items[genre(random, user, familiar)])
            shown = {
                "page_url": "/feed",
                "section": section,
                "item_id": item.item_id,
                "content_type": item.content_type,
                "position": position,
                "genre": item.genre,
                "creator_id": item.creator_id,
                "source": item.source,
                "published_at": now - item.age_ms,
                "exploration": not familiar,
            }
            yield now, "feed_view", shown
            if random.random() < rate * (FAMILIAR_APPEAL if familiar else NEW_APPEAL):
                now += pause(random, 2)
                yield now, "feed_click", shown
                now += pause(random, 35)
                yield from reaction(random, item.item_id, item.content_type, now)
        now += pause(random, 20)


def web(random: Random, content: Content, user: User, now: int) -> Iterator[Action]:
    """Analytics web: pages, the requests behind them, searches, tasks."""
    end = now + stay(random)
    referrer = random.choice(("https://search.example/", "https://news.example/", None))
    while now < end:
        page = pick(random, PAGES)
        view = {"page_url": page, "referrer": referrer, "title": page.strip("/") or "home"}
        yield now, "page_view", view
        referrer = page
        if random.random() < 0.8:
            yield now + 10, "request", request(random, "page.get", page)
        now += pause(random, 25)
        chance = random.random()
        if chance < 0.25:
            yield now, "link_click", {"page_url": page, "element_id": "link-next"}
        elif chance < 0.40:
            yield now, "button_click", {"page_url": page, "element_id": f"button-{page[1:4]}"}
        elif chance < 0.46:
            yield now, "form_submit", {"page_url": page, "element_id": "form-filter"}
        elif chance < 0.54:
            yield from search(random, now, page)
        elif chance < 0.66:
            now = yield from task(random, now)
        elif chance < 0.68:
            yield (
                now,
                "custom",
                {
                    "name": "report_exported",
                    "properties": [{"key": "format", "value": random.choice(("csv", "pdf"))}],
                },
            )
        now += pause(random, 20)


def video(random: Random, content: Content, user: User, now: int) -> Iterator[Action]:
    """Video streaming: find a series, watch; many watch on."""
    yield now, "page_view", {"page_url": "/watch", "title": "watch"}
    yield from exposure(user, PLAYER_THEME.experiment_id, now + 1)
    now += pause(random, 20)
    if random.random() < 0.3:
        yield from search(random, now, "/watch")
        now += pause(random, 20)
    familiar = random.random() < FAMILIAR_SHARE
    series = pick(random, content.series[genre(random, user, familiar)])
    rate = BINGE_RATE
    if user.treated(PLAYER_THEME.experiment_id):
        rate *= 1 + PLAYER_THEME.effect
    completed = random.choice((3, 3, 4, 5)) if random.random() < rate else random.choice((0, 1, 2))
    stopped = completed < 3 and (completed == 0 or random.random() < 0.4)
    first = random.randrange(series.episodes)
    quality = "4k" if user.devices[0]["device_type"] == "tv" else random.choice(("720p", "1080p"))
    for number in range(completed + stopped):
        episode = f"e{first + number + 1:02d}"
        played = {
            "page_url": f"/watch/{series.series_id}",
            "item_id": f"{series.series_id}-{episode}",
            "series_id": series.series_id,
            "episode": episode,
            "duration_ms": series.episode_ms,
            "quality": quality,
            "genre": series.genre,
            "creator_id": series.creator_id,
            "published_at": now - series.age_ms,
            "exploration": not familiar,
        }
        whole = number < completed
        watched = series.episode_ms if whole else int(series.episode_ms * random.uniform(0.1, 0.7))
        yield now, "playback", {**played, "action": "start", "position_ms": 0}
        for position in range(2 * MINUTE, watched, 2 * MINUTE):
            yield (
                now + position,
                "playback",
                {
                    **played,
                    "action": "progress",
                    "position_ms": position,
                },
            )
        now += watched
        action = "complete" if whole else "skip"
        yield now, "playback", {**played, "action": action, "position_ms": watched}
        now += pause(random, 8)
    if random.random() < 0.12:
        yield now, "rating", {"item_id": series.series_id, "score": random.randint(2, 5)}


def learning(random: Random, content: Content, user: User, now: int) -> Iterator[Action]:
    """Learning: a course's units, and quizzes at their ends."""
    end = now + stay(random)
    course = pick(random, COURSES)
    page = f"/courses/{course}"
    yield now, "page_view", {"page_url": page, "title": course}
    action = "enroll" if random.random() < 0.1 else "view"
    yield now + 40, "course_interaction", {"course_id": course, "action": action}
    while now < end:
        kind = random.choice(COURSE_CONTENT)
        spent = pause(random, 120)
        now += spent
        share = round(min(1.0, random.betavariate(5, 2) * (0.6 + user.skill / 2)), 3)
        yield (
            now,
            "learning_session",
            {
                "page_url": page,
                "duration": spent / SECOND,
                "completion_rate": share,
                "content_type": kind,
            },
        )
        if random.random() < 0.3:
            yield from exposure(user, QUIZ_HINTS.experiment_id, now + 1)
            spent = pause(random, 60)
            now += spent
            yield (
                now,
                "quiz_attempt",
                {
                    "page_url": f"{page}/quiz",
                    "quiz_id": f"quiz-{course}",
                    "score": quiz_score(random, user),
                    "total_questions": 10,
                    "time_taken": spent / SECOND,
                },
            )
        if random.random() < 0.08:
            yield (
                now + 20,
                "course_interaction",
                {
                    "page_url": page,
                    "course_id": course,
                    "action": "complete",
                    "duration": spent / SECOND,
                    "content_type": kind,
                },
            )
        now += pause(random, 15)


BEHAVIOUR: dict[str, Platform] = {"feed": feed, "web": web, "video": video, "learning": learning}
