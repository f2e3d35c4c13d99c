"""Events to the collector: JSON over HTTP, in gzipped batches, an answer for each event.

    POST {endpoint}/v1/batch   {"batch": [event, …], "sent_at": "2026-01-31T12:00:00.000Z"}
    200  {"results": [{"id": …, "status": "ok" | "retry" | "drop", "reason": …}, …]}
    429, 503 with Retry-After: all of it later

Upstream: `sender.py`. Downstream: `streamgauge collect`, or whoever speaks these words.

Invariants: an event is delivered only when the answer names it as `ok`; whatever cannot be read as
an answer means "again". A batch that is refused as a whole (400, 413, 422) is halved until the
event to blame stands alone.
"""

from __future__ import annotations

import gzip
import http.client
import json
import socket
import ssl
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from streamgauge.producers.errors import Unavailable
from streamgauge.producers.preparation import Ready
from streamgauge.producers.transport import DELIVERED, Again, Answer, Refused
from streamgauge.schemas.backoff import retry_after_s

GZIP_FROM = 1024
"""Bytes of a body; smaller ones are sent as they are."""

MAX_ANSWER = 4 << 20
REFUSED = frozenset({400, 413, 422})
DENIED = frozenset({401, 403, 404, 405})
DENIED_RETRY_S = 30.0
"""A wrong key or address is put right by a person, so there is no hurry; nothing is dropped."""


class CollectorTransport:
    """One connection, kept alive."""

    max_bytes = 500_000

    def __init__(self, endpoint: str, write_key: str, *, max_batch: int = 100) -> None:
        at = urlsplit(endpoint)
        if at.scheme not in ("http", "https") or not at.hostname:
            raise ValueError(f"{endpoint!r} is no address: use https://HOST[:PORT][/PATH]")
        self.max_batch = max_batch
        self._endpoint = endpoint
        self._secure = at.scheme == "https"
        self._host, self._port = at.hostname, at.port
        self._path = f"{at.path.rstrip('/')}/v1/batch"
        self._headers = {
            "Authorization": f"Bearer {write_key}",
            "Content-Type": "application/json",
            "User-Agent": "streamgauge-python",
        }
        self._connection: http.client.HTTPConnection | None = None
        self._interrupted = False

    def send(self, events: Sequence[Ready], timeout: float) -> list[Answer]:
        deadline = time.monotonic() + timeout
        bodies = [ready.event.model_dump_json(exclude_none=True) for ready in events]
        return self._sent(events, bodies, deadline)

    def interrupt(self) -> None:
        self._interrupted = True
        connection = self._connection
        if connection is not None and connection.sock is not None:
            try:
                connection.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def abandon(self) -> None:
        self.close()  # the parent's own descriptor keeps the connection open

    def _sent(self, events: Sequence[Ready], bodies: list[str], deadline: float) -> list[Answer]:
        status, headers, body = self._post(_body(bodies), deadline)
        if status == 200:
            return _answers(events, body)
        said = f"{self._endpoint} answered {status} {_reason(body)}".rstrip()
        if status in REFUSED:
            if len(events) == 1:
                reason = "too_large" if status == 413 else "rejected"
                return [Refused(reason, said)]
            half = len(events) // 2
            return [
                *self._sent(events[:half], bodies[:half], deadline),
                *self._sent(events[half:], bodies[half:], deadline),
            ]
        retry_after = retry_after_s(headers.get("Retry-After"), time.time())
        if status in DENIED:
            said += ": check endpoint and write_key"
            retry_after = max(retry_after or 0.0, DENIED_RETRY_S)
        raise Unavailable(said, retry_after)

    def _post(self, body: bytes, deadline: float) -> tuple[int, Any, bytes]:
        headers = self._headers
        if len(body) >= GZIP_FROM:
            body = gzip.compress(body, 5)
            headers = {**headers, "Content-Encoding": "gzip"}
        kept = self._connection is not None
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or self._interrupted:
                raise Unavailable(f"{self._endpoint} did not answer in time")
            try:
                connection = self._connected(left)
                connection.request("POST", self._path, body, headers)
                response = connection.getresponse()
                answer = response.read(MAX_ANSWER)
                if response.will_close or not response.isclosed():
                    self.close()
                return response.status, response.headers, answer
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if kept and not isinstance(error, TimeoutError):
                    kept = False  # the other side closed a connection that was idle: a new one
                    continue
                said = f"{type(error).__name__}: {error}"
                raise Unavailable(f"{self._endpoint}: {said}") from error

    def _connected(self, timeout: float) -> http.client.HTTPConnection:
        if self._connection is None:
            if self._secure:
                context = ssl.create_default_context()
                self._connection = http.client.HTTPSConnection(
                    self._host, self._port, timeout=timeout, context=context
                )
            else:
                self._connection = http.client.HTTPConnection(
                    self._host, self._port, timeout=timeout
                )
        if self._connection.sock is not None:
            self._connection.sock.settimeout(timeout)
        self._connection.timeout = timeout
        return self._connection


def _body(bodies: list[str]) -> bytes:
    sent_at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return f'{{"batch":[{",".join(bodies)}],"sent_at":"{sent_at}"}}'.encode()


def _answers(events: Sequence[Ready], body: bytes) -> list[Answer]:
    """What a 200 says of each event; in doubt, again."""
    try:
        results = json.loads(body)["results"]
        if len(results) == len(events):
            return [_answer(ready, one) for ready, one in zip(events, results, strict=True)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        pass
    raise Unavailable(f"an answer that says nothing of the {len(events)} events: {body[:200]!r}")


def _answer(ready: Ready, result: dict[str, Any]) -> Answer:
    if result.get("id") not in (ready.event.event_id, None):
        return Again(f"the answer is about {result.get('id')!r:.80}")
    status, why = result.get("status"), result.get("reason")
    if status == "ok":
        return DELIVERED
    if status == "drop":
        return Refused("rejected", str(why))
    return Again(str(why))


def _reason(body: bytes) -> str:
    """The begin of what an error's body says, on one line."""
    return " ".join(body[:300].decode(errors="replace").split())
