"""The simulated users: who they are, what they use and like, what they agreed to.

Upstream: a seed and the user's number. Downstream: `behaviour.py`. Invariant: a user is a
function of seed and number, so that a population of a million takes no memory.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from streamgauge.producers.simulator.content import GENRES
from streamgauge.producers.simulator.experiments import EXPERIMENTS

PLATFORMS = ("feed", "web", "video", "learning")
PLATFORM_WEIGHTS = (35, 30, 15, 20)

# device type, screen, operating system, browser; how common
DEVICES = (
    ("mobile", "390x844", "iOS", "Safari"),
    ("mobile", "412x915", "Android", "Chrome"),
    ("tablet", "820x1180", "iPadOS", "Safari"),
    ("desktop", "1920x1080", "Windows", "Chrome"),
    ("desktop", "1512x982", "macOS", "Safari"),
    ("desktop", "2560x1440", "Linux", "Firefox"),
    ("tv", "3840x2160", "Tizen", "TV Browser"),
)
DEVICE_WEIGHTS = (22, 28, 8, 22, 10, 4, 6)
SPEEDS = ("slow", "medium", "fast")
COUNTRIES = ("US", "DE", "IN", "BR", "GB", "FR", "JP", "PL", "NG", "MX")
COUNTRY_WEIGHTS = (30, 14, 13, 9, 9, 8, 6, 4, 4, 3)
VERSIONS = ("5.2.0", "5.2.1", "5.3.0")

DENIED_SHARE = 0.04
UNASKED_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class User:
    """One user; `devices` are envelope fields, the first one is used most."""

    user_id: str
    anonymous_id: str
    platform: str
    devices: tuple[dict[str, Any], ...]
    genres: tuple[str, ...]
    skill: float
    envelope: dict[str, Any]
    variants: dict[str, str]

    def treated(self, experiment_id: str) -> bool:
        return self.variants.get(experiment_id) == "treatment"


def user_of(seed: int, number: int) -> User:
    """The user with this number."""
    random = Random(seed * 1_000_003 + number)
    user_id = f"user-{number:07d}"
    country = random.choices(COUNTRIES, COUNTRY_WEIGHTS)[0]
    speed = random.choices(SPEEDS, (1, 4, 5))[0]
    app_version = random.choice(VERSIONS)
    devices = tuple(
        {
            "device_type": kind,
            "screen_size": screen,
            "connection_speed": speed,
            "os": os,
            "browser": browser,
        }
        for kind, screen, os, browser in random.choices(
            DEVICES, DEVICE_WEIGHTS, k=random.choice((1, 2, 2))
        )
    )
    consent: bool | None = True
    asked = random.random()
    if asked < DENIED_SHARE:
        consent = False
    elif asked < DENIED_SHARE + UNASKED_SHARE:
        consent = None
    return User(
        user_id=user_id,
        anonymous_id=f"anon-{random.getrandbits(48):012x}",
        platform=random.choices(PLATFORMS, PLATFORM_WEIGHTS)[0],
        devices=devices,
        genres=tuple(random.sample(GENRES, 4)),
        skill=random.betavariate(6, 3),
        envelope={
            "user_id": user_id,
            "country": country,
            "app_version": app_version,
            "consent_analytics": consent,
            "consent_personalisation": consent,
            "consent_marketing": consent and random.random() < 0.4,
        },
        variants={
            experiment.experiment_id: variant
            for experiment in EXPERIMENTS
            if (variant := experiment.variant(user_id))
        },
    )
