r"""Web access logs in combined format (Apache, nginx) as events, line by line.

    83.149.9.216 - - [17/May/2015:10:05:03 +0000] "GET /blog?page=2 HTTP/1.1" 200 1024
        "https://example.org/" "Mozilla/5.0 …"                     (one line in the file)

A GET answered 200 or 304 is a `page_view`; every other line is a `request`, with the HTTP
method as its method_name and the path as its route (both null where the client sent no
request line, as in a time-out or a TLS handshake on a plain port). The page is the request's
target up to the first `?` or `#`; the user is a hash of address and agent.

What page views by page and hour must be, in one line of awk, for a log whose times say +0000:

    awk -F'"' 'NF>6 && split($3,s," ")==2 && s[1]~/^(200|304)$/ && sub(/^GET /,"",$2) {
        sub(/ HTTP\/[0-9.]+$/,"",$2); sub(/[?#].*/,"",$2); split($1,t,/[][]/);
        n[substr(t[2],1,14) " " $2]++} END {for (k in n) print n[k], k}' access.log

Upstream: `files.py` reads the lines. Invariant: the same line always gives the same fields.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from streamgauge.schemas.errors import InvalidEvent

# A quoted field may hold escaped quotes, as Apache writes them.
LINE = re.compile(
    r'(?P<address>\S+) \S+ .+? \[(?P<time>[^\]]*)\] "(?P<request>(?:[^"\\]|\\.)*)"'
    r" (?P<status>\d{3}) (?P<size>\d+|-)"
    r' "(?P<referrer>(?:[^"\\]|\\.)*)" "(?P<agent>(?:[^"\\]|\\.)*)"\s*'
)
REQUEST = re.compile(r"(?P<method>[A-Z]+) (?P<target>.+?)(?: HTTP/[0-9.]+)?")
TIME = re.compile(r"(\d\d)/([A-Z][a-z]{2})/(\d{4}):(\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)")
QUERY = re.compile(r"[?#]")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
VIEW_STATUS = {200, 304}


def parse_line(line: str) -> Mapping[str, Any]:
    """The fields of one line's event, or InvalidEvent with reason bad_line."""
    match = LINE.fullmatch(line)
    if not match:
        raise InvalidEvent("bad_line", None, f"not in combined log format: {line[:80]!r}")
    address, time, request, status, size, referrer, agent = match.groups()
    asked = REQUEST.fullmatch(request)
    method, target = asked.groups() if asked else (None, None)
    page = QUERY.split(target, maxsplit=1)[0] if target else None
    fields: dict[str, Any] = {
        "timestamp": parse_time(time),
        "user_id": hashlib.sha256(f"{address} {agent}".encode()).hexdigest()[:16],
        "page_url": page,
        "referrer": None if referrer in ("", "-") else referrer,
        "status": int(status),
        "response_size_bytes": None if size == "-" else int(size),
    }
    if method == "GET" and fields["status"] in VIEW_STATUS:
        return {"event_type": "page_view", "method": method, **fields}
    return {"event_type": "request", "method_name": method, "route": page, **fields}


def parse_time(text: str) -> int:
    """`17/May/2015:10:05:03 +0000` in milliseconds since the epoch."""
    match = TIME.fullmatch(text)
    if not match or match[2] not in MONTHS:
        raise InvalidEvent("bad_line", "timestamp", f"not a time of a web log: {text[:40]!r}")
    day, month, year, hour, minute, second, sign, zone_hours, zone_minutes = match.groups()
    offset = timedelta(hours=int(zone_hours), minutes=int(zone_minutes))
    try:
        zone = timezone(-offset if sign == "-" else offset) if offset else UTC
        moment = datetime(
            int(year),
            MONTHS.index(month) + 1,
            int(day),
            int(hour),
            int(minute),
            int(second),
            tzinfo=zone,
        )
    except ValueError as error:
        raise InvalidEvent("bad_line", "timestamp", f"{error}: {text[:40]!r}") from None
    return int(moment.timestamp()) * 1000
