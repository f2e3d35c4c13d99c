import re
import shlex
import subprocess
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from streamgauge.producers import weblog
from streamgauge.producers.weblog import parse_line
from streamgauge.schemas.errors import InvalidEvent
from streamgauge.schemas.events import parse_event

LOG = Path(__file__).with_name("data") / "access.log"


def line(
    request="GET /a HTTP/1.1",
    status="200",
    size="12",
    time="03/Mar/2024:09:05:03 +0000",
    referrer="-",
    agent="x",
    address="203.0.113.7",
):
    return f'{address} - - [{time}] "{request}" {status} {size} "{referrer}" "{agent}"'


@pytest.mark.parametrize("status", ["200", "304"])
def test_a_get_that_was_answered_is_a_page_view(status):
    assert parse_line(line("GET /shoes?size=42 HTTP/1.1", status, "9130", referrer="/")) == {
        "event_type": "page_view",
        "timestamp": 1_709_456_703_000,
        "user_id": parse_line(line())["user_id"],
        "page_url": "/shoes",
        "referrer": "/",
        "method": "GET",
        "status": int(status),
        "response_size_bytes": 9130,
    }


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /a", "206"),
        ("GET /a", "404"),
        ("HEAD /a HTTP/1.1", "200"),
        ("POST /a?b HTTP/2", "200"),
    ],
)
def test_everything_else_is_a_request(request_line, status):
    fields = parse_line(line(request_line, status))
    assert fields["event_type"] == "request"
    assert fields["method_name"] == request_line.split()[0]
    assert fields["route"] == fields["page_url"] == "/a"
    assert fields["status"] == int(status)


@pytest.mark.parametrize("request_line", ["-", "", "GET", r"\x16\x03\x01", "get / HTTP/1.1"])
def test_no_proper_request_line_is_a_request_without_method_and_route(request_line):
    fields = parse_line(line(request_line, "400"))
    assert (fields["event_type"], fields["method_name"], fields["route"]) == ("request", None, None)


@pytest.mark.parametrize(
    ("target", "page"),
    [
        ("/a?b=/c?d", "/a"),
        ("/a#b?c", "/a"),
        ("/a b", "/a b"),
        ("/a%20b", "/a%20b"),
        ("http://shop.example/a?b", "http://shop.example/a"),
        (r"/a\"b", r"/a\"b"),
    ],
)
def test_the_page_is_the_target_without_its_query(target, page):
    assert parse_line(line(f"GET {target} HTTP/1.1"))["page_url"] == page


def test_the_user_is_address_and_agent_together():
    users = [
        parse_line(line(address=address, agent=agent))["user_id"]
        for address in ("192.0.2.1", "2001:db8::1")
        for agent in ("one", r"the \"other\"")
    ]
    assert len(set(users)) == 4
    assert not any("192.0.2.1" in user for user in users)


@pytest.mark.parametrize("absent", ["-", ""])
def test_what_a_dash_stands_for_is_absent(absent):
    fields = parse_line(line(size="-", referrer=absent))
    assert fields["response_size_bytes"] is None
    assert fields["referrer"] is None


@pytest.mark.parametrize("time", ["03/Mar/2024:11:05:03 +0200", "03/Mar/2024:03:35:03 -0530"])
def test_times_are_utc(time):
    assert parse_line(line(time=time))["timestamp"] == parse_line(line())["timestamp"]


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ("nonsense", "not in combined log format"),
        (line().rsplit(' "', 1)[0], "not in combined log format"),
        (line(status="OK"), "not in combined log format"),
        (line(time="yesterday"), "not a time of a web log: 'yesterday'"),
        (line(time="03/Mrz/2024:09:05:03 +0000"), "not a time"),
        (line(time="31/Feb/2024:09:05:03 +0000"), "day is out of range"),
        (line(time="03/Mar/2024:24:05:03 +0000"), "hour must be"),
        (line(time="03/Mar/2024:09:05:03 +9900"), "timedelta"),
    ],
)
def test_a_bad_line_says_what_is_wrong(bad, says):
    with pytest.raises(InvalidEvent, match=re.escape(says)) as refused:
        parse_line(bad)
    assert refused.value.reason == "bad_line"


def test_a_hostile_line_takes_no_long_time():
    for hostile in ('\\"' * 20_000, " [x]" * 20_000, 'a - b [x] "' + "\\" * 20_001):
        with pytest.raises(InvalidEvent):
            parse_line("a b " + hostile)


def test_page_views_by_page_and_hour_are_what_the_documented_awk_counts():
    documented = re.search(r"( {4}awk .*?access\.log)\n", weblog.__doc__, re.DOTALL)[1]
    command = [part.replace("access.log", str(LOG)) for part in shlex.split(documented)]
    counted = Counter()
    for row in subprocess.run(command, capture_output=True, check=True).stdout.splitlines():
        count, key = row.decode().split(" ", 1)
        counted[key] = int(count)

    parsed = Counter()
    for text in LOG.read_bytes().split(b"\n"):
        try:
            event = parse_event(parse_line(text.decode(errors="backslashreplace")))
        except InvalidEvent:
            continue
        if event.event_type == "page_view":
            hour = datetime.fromtimestamp(event.timestamp / 1000, UTC)
            parsed[f"{hour:%d/%b/%Y:%H} {event.page_url}"] += 1

    assert parsed == counted
    assert counted["03/Mar/2024:09 /style.css"] == 2
    assert counted.total() == 28
