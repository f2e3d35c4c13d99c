"""User agents, and addresses behind proxies."""

from ipaddress import ip_network

import pytest

from streamgauge.serving.collector import addresses
from streamgauge.serving.collector.agents import Agent, agent

CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0"


@pytest.mark.parametrize(
    ("header", "device", "system", "browser"),
    [
        (f"Mozilla/5.0 (Windows NT 10.0; Win64; x64) {CHROME} Safari/537.36",
         "desktop", "Windows", "Chrome"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko)"
         " Version/17.1 Safari/605.1.15", "desktop", "Mac OS X", "Safari"),
        ("Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0",
         "desktop", "Linux", "Firefox"),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like"
         " Gecko) Version/17.1 Mobile/15E148 Safari/604.1", "mobile", "iOS", "Mobile Safari"),
        ("Mozilla/5.0 (iPad; CPU OS 16_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"
         " Version/16.6 Mobile/15E148 Safari/604.1", "tablet", "iOS", "Mobile Safari"),
        (f"Mozilla/5.0 (Linux; Android 14; Pixel 8) {CHROME} Mobile Safari/537.36",
         "mobile", "Android", "Chrome Mobile"),
        (f"Mozilla/5.0 (Linux; Android 13; SM-X710) {CHROME} Safari/537.36",
         "tablet", "Android", "Chrome"),
        (f"Mozilla/5.0 (SMART-TV; LINUX; Tizen 7) {CHROME} TV Safari/537.36", "tv", None, None),
        (f"Mozilla/5.0 (Web0S; Linux/SmartTV) {CHROME} Safari/537.36", "tv", None, None),
    ],
)  # fmt: skip
def test_browsers_are_told_apart(
    header: str, device: str, system: str | None, browser: str | None
) -> None:
    found = agent(header)
    assert found.device_type == device
    assert not found.bot
    assert system is None or found.os == system
    assert browser is None or found.browser == browser


@pytest.mark.parametrize(
    "header",
    [
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X) AppleWebKit/537.36 (KHTML, like Gecko)"
        " Chrome/120.0 Mobile Safari/537.36 (compatible; Googlebot/2.1)",
        "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"
        " HeadlessChrome/120.0.0.0 Safari/537.36",
        "python-requests/2.31.0",
        "curl/8.4.0",
        "",
    ],
)
def test_bots_are_marked(header: str) -> None:
    assert agent(header).bot
    assert agent(header).device_type is None


@pytest.mark.parametrize("header", ["Mozilla/5.0", "\x00\xff" * 300, "(" * 500, "a" * 100_000])
def test_nonsense_says_nothing(header: str) -> None:
    assert agent(header) == Agent()


def test_the_nearest_address_that_is_no_proxy_of_ours() -> None:
    ours = (ip_network("10.0.0.0/8"), ip_network("192.0.2.7/32"))
    assert addresses.client("203.0.113.9", "198.51.100.1", ours) == "203.0.113.9"
    assert addresses.client("10.0.0.1", "198.51.100.1", ours) == "198.51.100.1"
    assert addresses.client("10.0.0.1", "6.6.6.6, 198.51.100.1, 192.0.2.7", ours) == "198.51.100.1"
    assert addresses.client("10.0.0.1", "nonsense", ours) == "nonsense"
    assert addresses.client("10.0.0.1", "", ours) == "10.0.0.1"


def test_limits_go_by_what_one_subscriber_has() -> None:
    assert addresses.network("198.51.100.1") == "198.51.100.1"
    assert addresses.network("2001:db8:1:2:3::4") == addresses.network("2001:db8:1:2:ffff::")
    assert addresses.network("nonsense") == "nonsense"
    assert addresses.private("127.0.0.1") and addresses.private("10.1.2.3")
    assert not addresses.private("8.8.8.8") and not addresses.private("nonsense")
