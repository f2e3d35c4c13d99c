"""One request to a webhook, and what its answer means.

    POST <url>
    Content-Type: application/json
    Idempotency-Key: <anomaly_id>-<version>
    Streamgauge-Event: anomaly_opened
    Streamgauge-Signature: t=<seconds>,v1=<HMAC-SHA256 of "<seconds>.<body>", in hex>

Upstream: deliveries. Downstream: the receiver. Invariants: redirects are not followed; an attempt
has an end; neither the secret nor the address, which may hold one, is in what is said of an answer.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import ssl
import time
from dataclasses import dataclass
from typing import Literal
from urllib.parse import urlsplit

from streamgauge.schemas.backoff import MAX_RETRY_AFTER_S, retry_after_s
from streamgauge.sinks.webhook.delivery import Delivery

TIMEOUT_S = 5.0
"""To connect, and for each step of the answer."""

_AGAIN = frozenset({408, 421, 423, 425, 429})
"""Statuses below 500 that pass."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What became of an attempt."""

    outcome: Literal["delivered", "again", "refused"]
    said: str
    retry_after: float = 0.0
    """Seconds that the receiver asks to be left alone."""


def post(url: str, delivery: Delivery, secret: str | None, timeout: float = TIMEOUT_S) -> Answer:
    """Send it once."""
    at = urlsplit(url)
    path = (at.path or "/") + (f"?{at.query}" if at.query else "")
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "streamgauge-webhook",
        "Idempotency-Key": delivery.key,
        "Streamgauge-Event": delivery.event,
        "Connection": "close",
    }
    if secret is not None:
        headers["Streamgauge-Signature"] = signature(secret, delivery.body, int(time.time()))
    connection = _connection(at.scheme, at.hostname or "", at.port, timeout)
    try:
        connection.request("POST", path, delivery.body, headers)
        response = connection.getresponse()
        said = " ".join(response.read(300).decode(errors="replace").split())
        return judged(response.status, response.headers.get("Retry-After"), said)
    except (OSError, http.client.HTTPException) as error:
        return Answer(outcome="again", said=f"{type(error).__name__}: {error}")
    finally:
        connection.close()


def signature(secret: str, body: bytes, now: int) -> str:
    """Of a body, at a time: an old request cannot be sent again by somebody else unseen."""
    digest = hmac.new(secret.encode(), f"{now}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={now},v1={digest}"


def judged(status: int, retry_after: str | None, said: str) -> Answer:
    """What a status means."""
    told = f"{status} {said}".rstrip()
    if 200 <= status < 300:
        return Answer(outcome="delivered", said=str(status))
    if status >= 500 or status in _AGAIN:
        wait = min(retry_after_s(retry_after, time.time()) or 0.0, MAX_RETRY_AFTER_S)
        return Answer(outcome="again", said=told, retry_after=wait)
    if 300 <= status < 400:
        told += ": redirects are not followed, give the address itself"
    return Answer(outcome="refused", said=told)


def _connection(
    scheme: str, host: str, port: int | None, timeout: float
) -> http.client.HTTPConnection:
    if scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
    return http.client.HTTPConnection(host, port, timeout=timeout)
