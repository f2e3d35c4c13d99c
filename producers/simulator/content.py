"""What there is to see in the simulated world: pages, feed items, series, courses.

Upstream: a seed. Downstream: `behaviour.py` picks from it. Invariant: the same seed gives the
same content; popularity is skewed, few items take most of the attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

DAY_MS = 86_400_000

GENRES = (
    "action", "animation", "comedy", "cooking", "crime", "documentary",
    "drama", "fantasy", "history", "horror", "music", "mystery",
    "nature", "romance", "science-fiction", "sport",
)  # fmt: skip
SECTIONS = ("top", "following", "discover", "trending")
PAGES = (
    "/", "/pricing", "/features", "/docs", "/docs/start", "/docs/api",
    "/docs/events", "/docs/metrics", "/blog", "/blog/launch", "/blog/roadmap", "/dashboard",
    "/dashboard/traffic", "/dashboard/funnels", "/reports", "/reports/weekly", "/tasks",
    "/tasks/board", "/settings", "/settings/team", "/account", "/help", "/about", "/jobs",
)  # fmt: skip
QUERIES = (
    "funnel", "retention", "export", "invoice", "webhooks", "api-key",
    "dashboards", "python", "kafka", "statistics", "algebra", "spanish",
    "space", "cats", "recipes", "football", "piano", "nothing-like-this",
)  # fmt: skip
SOURCES = ("personal", "interest", "editorial")
CONTENT_TYPES = ("post", "video", "article", "photo")
ITEMS_PER_GENRE = 120
SERIES_PER_GENRE = 6
CREATORS = 400
COURSES = tuple(f"course-{number:02d}" for number in range(24))
COURSE_CONTENT = ("video", "text", "exercise")


@dataclass(frozen=True, slots=True)
class Item:
    """Something in a feed."""

    item_id: str
    content_type: str
    genre: str
    creator_id: str
    source: str
    age_ms: int


@dataclass(frozen=True, slots=True)
class Series:
    """A series, with its episodes' length."""

    series_id: str
    genre: str
    creator_id: str
    episode_ms: int
    episodes: int
    age_ms: int


class Content:
    """All content by genre; `pick` prefers what comes first."""

    def __init__(self, seed: int) -> None:
        random = Random(f"{seed}/content")
        self.items: dict[str, list[Item]] = {}
        self.series: dict[str, list[Series]] = {}
        for genre in GENRES:
            self.items[genre] = [
                Item(
                    item_id=f"{genre}-{number:03d}",
                    content_type=random.choice(CONTENT_TYPES),
                    genre=genre,
                    creator_id=_creator(random),
                    source=random.choice(SOURCES),
                    age_ms=_age(random),
                )
                for number in range(ITEMS_PER_GENRE)
            ]
            self.series[genre] = [
                Series(
                    series_id=f"series-{genre}-{number}",
                    genre=genre,
                    creator_id=_creator(random),
                    episode_ms=random.randint(6, 12) * 60_000,
                    episodes=random.randint(6, 24),
                    age_ms=_age(random),
                )
                for number in range(SERIES_PER_GENRE)
            ]


def pick(random: Random, things: list | tuple):  # type: ignore[type-arg, no-untyped-def]
    """One of them; the first tenth is taken more often than the last half."""
    return things[int(len(things) * random.random() ** 3)]


def _creator(random: Random) -> str:
    return f"creator-{int(CREATORS * random.random() ** 2):03d}"


def _age(random: Random) -> int:
    """7 of 10 things are younger than two years, 3 of 10 younger than 30 days."""
    share = random.random()
    if share < 0.3:
        return random.randint(0, 29 * DAY_MS)
    if share < 0.7:
        return random.randint(30 * DAY_MS, 730 * DAY_MS)
    return random.randint(730 * DAY_MS, 3650 * DAY_MS)
