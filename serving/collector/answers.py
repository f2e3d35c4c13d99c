"""What a request is answered: a result for each event, or why it is not taken; and its headers.

Upstream: `events.py`. Downstream: the client.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import orjson

from streamgauge.serving.collector import telemetry
from streamgauge.serving.collector.delivery import Outcome
from streamgauge.serving.collector.door import AWAY_S
from streamgauge.serving.collector.errors import Refusal
from streamgauge.serving.collector.intake import Answer
from streamgauge.serving.collector.keys import WriteKey

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

PREFLIGHT: Headers = [
    (b"access-control-allow-methods", b"POST"),
    (b"access-control-allow-headers", b"authorization, content-type, content-encoding"),
    (b"access-control-max-age", b"86400"),
    (b"content-length", b"0"),
]


def results(
    key: WriteKey, answers: Sequence[Answer], outcomes: Sequence[Outcome]
) -> tuple[int, bytes, Headers]:
    """Status, body and headers for the events of a request."""
    told: list[dict[str, Any]] = []
    statuses: Counter[str] = Counter()
    for answer, outcome in zip(answers, outcomes, strict=True):
        reason = answer.reason
        if outcome == "stored":
            status = "ok" if reason is None else "drop"
        elif outcome == "retry":
            status, reason = "retry", "unavailable: not kept, send it again"
        else:
            status, reason = "drop", "too_large: Kafka does not take a record of this size"
        statuses[status] += 1
        if reason is None:
            told.append({"id": answer.id, "status": status})
            continue
        if status == "drop":
            telemetry.DROPPED.labels(reason.partition(":")[0]).inc()
        told.append({"id": answer.id, "status": status, "reason": reason})
    for status, count in statuses.items():
        telemetry.EVENTS.labels(key.name, status).inc(count)
    content = orjson.dumps({"results": told})
    if told and statuses["retry"] == len(told):
        return 503, content, [_retry_after(AWAY_S)]
    return 200, content, []


def refused(refusal: Refusal) -> tuple[int, bytes, Headers]:
    """The same for a request that is not taken."""
    telemetry.REFUSED.labels(refusal.code).inc()
    headers: Headers = []
    if refusal.retry_after is not None:
        headers.append(_retry_after(refusal.retry_after))
    if refusal.status == 405:
        headers.append((b"allow", b"POST, OPTIONS"))
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if refusal.status == 415:
        headers.append((b"accept-encoding", b"gzip"))
    content = orjson.dumps({"error": {"code": refusal.code, "message": refusal.message}})
    return refusal.status, content, headers


def _retry_after(seconds: float) -> tuple[bytes, bytes]:
    return b"retry-after", str(math.ceil(seconds)).encode()


def cors(origin: str) -> Headers:
    """What lets a page of this origin read the answer."""
    return [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-expose-headers", b"retry-after"),
        (b"vary", b"origin"),
    ]


async def send(to: Send, status: int, content: bytes, headers: Headers) -> None:
    """The whole answer, as ASGI has it."""
    if content:
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
            *headers,
        ]
    await to({"type": "http.response.start", "status": status, "headers": headers})
    await to({"type": "http.response.body", "body": content})
