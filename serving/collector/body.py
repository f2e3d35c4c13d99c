"""A request's body: bytes to JSON, within limits.

Upstream: `app.py`, which receives the bytes. Downstream: `intake.py`. Pure.

Invariants: never more is inflated than the limit allows, whatever the gzip says it holds; whatever
the bytes are, the answer is a value or a Refusal.
"""

from __future__ import annotations

import json
import zlib
from typing import Any

import orjson

from streamgauge.serving.collector.errors import Refusal

GZIP = 16 + zlib.MAX_WBITS
MEMBERS = 16
"""Most files that are joined in one gzip; each costs more than it may hold."""

NESTS = frozenset({dict, list})

JSON_TYPES = frozenset({"application/json", "text/plain", ""})
"""text/plain is what a browser sends without asking first: beacons."""


def check_headers(content_type: str, encoding: str) -> bool:
    """Whether the body is gzip; refuses what cannot be read."""
    kind, _, parameters = content_type.partition(";")
    if kind.strip().lower() not in JSON_TYPES:
        raise Refusal(415, "content_type", "send application/json, or text/plain from a beacon")
    charset = parameters.partition("charset=")[2].strip(' "').lower()
    if charset not in ("", "utf-8", "utf8", "us-ascii"):
        raise Refusal(415, "charset", f"JSON is UTF-8, not {charset}")
    if encoding.lower() not in ("", "identity", "gzip", "x-gzip"):
        raise Refusal(415, "content_encoding", f"send gzip or nothing, not {encoding}")
    return "gzip" in encoding.lower()


def inflate(data: bytes, most: int) -> bytes:
    """The bytes in a gzip, of one member or several."""
    out = bytearray()
    for _ in range(MEMBERS):
        if not data:
            break
        stream = zlib.decompressobj(GZIP)
        try:
            out += stream.decompress(data, most + 1 - len(out))
        except zlib.error as error:
            raise Refusal(400, "gzip", f"the body is no gzip: {error}") from None
        if len(out) > most:
            raise Refusal(413, "too_large", f"the body inflates to more than {most} bytes")
        if not stream.eof:
            raise Refusal(400, "gzip", "the gzip ends too early")
        data = stream.unused_data
    if data:
        raise Refusal(400, "gzip", f"the gzip has more than {MEMBERS} members")
    return bytes(out)


def parse(data: bytes, values: int) -> Any:
    """The JSON value of a body of at most so many values, or about.

    A comma stands for a value: a few bytes of wrong values cost as much as a good event.
    """
    if data.count(b",") > values:
        raise Refusal(413, "too_many", f"the body has more than {values} values: send less at once")
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError as error:
        # It refuses half of a surrogate pair anywhere; here only the event that has it is refused.
        if b"\\u" not in data:
            raise Refusal(400, "not_json", f"the body is no JSON: {error}") from None
    try:
        return json.loads(data.decode(), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise Refusal(400, "not_json", f"the body is no JSON: {error}") from None


def fits(value: dict[str, Any], levels: int, items: int) -> bool:
    """Whether lists and objects are at most so deep, and hold so many items all together."""
    left = items - len(value)
    level = [item for item in value.values() if type(item) in NESTS]
    for _ in range(levels - 1):
        if not level:
            return left >= 0
        left -= sum(map(len, level))
        if left < 0:
            return False
        level = [
            item
            for each in level
            for item in (each.values() if isinstance(each, dict) else each)
            if type(item) in NESTS
        ]
    return not level


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")
