"""What a browser says of itself in its User-Agent: device, system, browser; whether it is a bot.

Upstream: the header of a request from a browser. Downstream: `intake.py`, for fields that an event
does not fill itself. ua-parser knows the names; the kind of device is told by what every
browser's maker puts there for that very purpose.

Invariant: an answer is kept, for most requests come with one of a few thousand headers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import ua_parser

MAX_AGENT = 512
"""Characters that are looked at."""

TV = re.compile(
    r"\b(?:smart-?tv|smarttv|googletv|appletv|apple tv|hbbtv|netcast|web0s|webos\.tv|bravia|viera|"
    r"roku|crkey|aft[a-z]{1,4}\d?|tizen.*\btv|android tv|tv safari|netflix)\b",
    re.IGNORECASE,
)
TABLET = re.compile(r"ipad|tablet|kindle|silk/|playbook|android(?!.*mobi)", re.IGNORECASE)
MOBILE = re.compile(r"mobi|iphone|ipod|windows phone|opera mini", re.IGNORECASE)
DESKTOP = re.compile(r"windows nt|macintosh|x11|cros|linux x86_64", re.IGNORECASE)
BOT = re.compile(
    r"bot\b|bot/|crawl|spider|slurp|headless|phantomjs|lighthouse|puppeteer|playwright|selenium|"
    r"python-|python/|curl/|wget/|go-http|java/|okhttp|axios|node-fetch|libwww|scrapy|facebookexternal"
    r"|preview|monitor|pingdom|uptime",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Agent:
    """What a header says; None where it says nothing."""

    device_type: str | None = None
    os: str | None = None
    browser: str | None = None
    bot: bool = False


def agent(header: str) -> Agent:
    """The parts of a User-Agent header."""
    return _agent(header[:MAX_AGENT])


@lru_cache(maxsize=20_000)
def _agent(header: str) -> Agent:
    if not header:
        return Agent(bot=True)  # every browser says something
    found = ua_parser.parse(header)
    bot = BOT.search(header) is not None or (
        found.device is not None and found.device.family == "Spider"
    )
    return Agent(
        device_type=None if bot else _device(header),
        os=found.os.family if found.os else None,
        browser=found.user_agent.family if found.user_agent else None,
        bot=bot,
    )


def _device(header: str) -> str | None:
    for kind, pattern in (
        ("tv", TV),
        ("tablet", TABLET),
        ("mobile", MOBILE),
        ("desktop", DESKTOP),
    ):
        if pattern.search(header):
            return kind
    return None
