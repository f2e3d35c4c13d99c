"""`POST /v1/events` and `POST /v1/batch`: one request from its headers to its answer.

Upstream: the ASGI server. Downstream: `body.py`, `intake.py`, `delivery.py`. This is ASGI itself,
without a framework's request object, as it runs for every event.

Invariants: 200 is said only when every event answered `ok` is durable and every one answered `drop`
is a dead letter, or turned away at the door; whatever is refused as a whole left nothing behind.
The bytes of requests that are not answered yet never exceed the limit: the rest is answered 503.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

import orjson

from streamgauge.schemas.envelope import to_millis
from streamgauge.schemas.ids import now_ms
from streamgauge.serving.collector import addresses, body, telemetry
from streamgauge.serving.collector.agents import agent
from streamgauge.serving.collector.clocks import Clocks
from streamgauge.serving.collector.delivery import Delivery, Outcome
from streamgauge.serving.collector.errors import Refusal
from streamgauge.serving.collector.intake import Answer, Intake, Sender
from streamgauge.serving.collector.keys import KeyRing, WriteKey
from streamgauge.serving.collector.rates import Buckets
from streamgauge.serving.collector.settings import CollectorConfig

logger = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

BUSY_S = 1.0
AWAY_S = 5.0
"""What Retry-After says."""

TURN_S = 0.05
QUERY_FIELDS = 20

PREFLIGHT: Headers = [
    (b"access-control-allow-methods", b"POST"),
    (b"access-control-allow-headers", b"authorization, content-type, content-encoding"),
    (b"access-control-max-age", b"86400"),
    (b"content-length", b"0"),
]


class Door:
    """What all requests share."""

    def __init__(
        self, config: CollectorConfig, keys: KeyRing, intake: Intake, delivery: Delivery
    ) -> None:
        self.config = config
        self.limits = config.limits
        self.keys = keys
        self.intake = intake
        self.delivery = delivery
        self.clocks = Clocks()
        self.buckets = Buckets()
        self.inflight = 0
        self.turned = time.monotonic()
        wanted = {"authorization", "origin", "content-type", "content-encoding", "content-length"}
        wanted |= {"user-agent", "x-forwarded-for", (config.country_header or "").lower()}
        self.wanted = frozenset(name.encode() for name in wanted)

    async def turn(self) -> None:
        """Note, for as long as the collector runs, when the event loop has last gone round."""
        while True:
            self.turned = time.monotonic()
            await asyncio.sleep(TURN_S)

    def check(self, now: float) -> None:
        """Refuse what would have to wait too long.

        Requests that came together are worked on in one turn of the event loop, one after the
        other: the later ones of a turn that is too long are refused, at a tenth of the cost.
        """
        if now - self.turned > self.limits.busy_seconds:
            raise Refusal(503, "busy", "too much at once: send it again", retry_after=BUSY_S)
        if not self.delivery.accepts:
            raise Refusal(503, "unavailable", "events cannot be kept now", retry_after=AWAY_S)

    def hold(self, size: int) -> None:
        """Count bytes in, or refuse them."""
        if self.inflight + size > self.limits.inflight_bytes:
            raise Refusal(503, "busy", "too much at once: send it again", retry_after=BUSY_S)
        self.inflight += size


class Endpoint:
    """One of the two routes: `single` takes an event, the other a batch."""

    def __init__(self, door: Door, *, single: bool) -> None:
        self._door = door
        self._single = single
        self._route = "events" if single else "batch"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        door, method = self._door, scope["method"]
        headers = {
            name: value.decode("latin-1") for name, value in scope["headers"] if name in door.wanted
        }
        origin = headers.get(b"origin")
        cors = _cors(origin) if origin is not None and door.keys.from_origin(origin) else []
        if method == "OPTIONS":
            status = 204 if cors else 403
            await _send(send, status, b"", [*PREFLIGHT, *cors])
        else:
            held = _Held(door)
            try:
                if method != "POST":
                    raise Refusal(405, "method", "send events by POST")
                answer = await self._answer(scope, receive, headers, origin, held)
            except Refusal as refusal:
                answer = _refused(refusal)
            finally:
                door.inflight -= held.size
            status, content, more = answer
            await _send(send, status, content, [*more, *cors])
            telemetry.SECONDS.observe(time.perf_counter() - began)
        telemetry.REQUESTS.labels(self._route, status).inc()

    async def _answer(
        self,
        scope: Scope,
        receive: Receive,
        headers: dict[bytes, str],
        origin: str | None,
        held: _Held,
    ) -> tuple[int, bytes, Headers]:
        door = self._door
        arrived, now = now_ms(), time.monotonic()
        key = door.keys.permit(_key_of(scope, headers), origin)
        limited = self._limits(key, scope, headers, origin is not None)
        _wait_if(max(door.buckets.wait(name, rate, now) for name, rate in limited))
        door.check(now)
        gzipped = body.check_headers(
            headers.get(b"content-type", ""), headers.get(b"content-encoding", "")
        )
        data = await self._body(receive, headers, held)
        telemetry.BYTES.inc(len(data))
        if gzipped:
            data = body.inflate(data, door.limits.inflated_bytes)
            held.add(len(data))
        events, sent_at = self._events(body.parse(data, door.limits.values))
        del data
        sender = self._sender(events, sent_at, key, arrived, headers, origin)
        answers = door.intake.take(events, sender)
        for name, rate in limited:
            door.buckets.charge(name, rate, len(events), now)
        stored = iter(await door.delivery.store([a.record for a in answers if a.record]))
        outcomes = [next(stored) if a.record else "stored" for a in answers]
        return _results(key, answers, outcomes)

    async def _body(self, receive: Receive, headers: dict[bytes, str], held: _Held) -> bytes:
        most = self._door.limits.body_bytes
        declared = int(headers.get(b"content-length", "0"))
        if declared > most:
            raise Refusal(413, "too_large", f"{declared} bytes, at most {most} are taken")
        if self._door.inflight + declared > self._door.limits.inflight_bytes:
            raise Refusal(503, "busy", "too much at once: send it again", retry_after=BUSY_S)
        parts: list[bytes] = []
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise Refusal(400, "gone", "the body did not come")
            part = message.get("body", b"")
            if held.size + len(part) > most:
                raise Refusal(413, "too_large", f"more than {most} bytes")
            held.add(len(part))
            parts.append(part)
            more = message.get("more_body", False)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _events(self, value: Any) -> tuple[list[Any], Any]:
        """The events of a body, and its sent_at."""
        if not isinstance(value, dict):
            raise Refusal(400, "not_an_object", 'send an event, or {"batch": […]} to /v1/batch')
        if self._single:
            if "batch" in value:
                raise Refusal(400, "batch", "send batches to /v1/batch")
            return [value], value.pop("sent_at", None)
        events = value.get("batch")
        if not isinstance(events, list):
            raise Refusal(400, "no_batch", 'send {"batch": […], "sent_at": …}')
        if len(events) > self._door.limits.batch_events:
            raise Refusal(
                413,
                "too_many",
                f"{len(events)} events, at most {self._door.limits.batch_events} are taken at once",
            )
        return events, value.get("sent_at")

    def _sender(
        self,
        events: list[Any],
        sent_at: Any,
        key: WriteKey,
        arrived: int,
        headers: dict[bytes, str],
        origin: str | None,
    ) -> Sender:
        told = headers.get(b"user-agent", "")
        shift = 0
        if sent_at is not None:
            shift = self._door.clocks.correction(_who(events, told), _time(sent_at), arrived)
            if shift:
                telemetry.CORRECTED.inc()
        browser = agent(told) if origin is not None or told.startswith("Mozilla/") else None
        if browser is not None and browser.bot:
            telemetry.BOTS.inc()
        country = None
        if self._door.config.country_header:
            country = headers.get(self._door.config.country_header.lower().encode())
        return Sender(key=key, arrived=arrived, shift=shift, agent=browser, country=country)

    def _limits(
        self, key: WriteKey, scope: Scope, headers: dict[bytes, str], browser: bool
    ) -> tuple[tuple[str, float], tuple[str, float]]:
        """The buckets of this request: the key's and the client's, each with its rate."""
        limits = self._door.limits
        rate = limits.rate if key.rate is None else key.rate
        client_rate = limits.client_rate if key.client_rate is None else key.client_rate
        if key.client_rate is None and not browser:
            client_rate = 0.0  # one server speaks for all of its users
        if not client_rate:
            return (key.name, rate), ("", 0.0)
        peer = (scope.get("client") or ("",))[0]
        forwarded = headers.get(b"x-forwarded-for", "")
        address = addresses.client(peer, forwarded, self._door.config.trusted_proxies)
        return (key.name, rate), (f"{key.name} {addresses.network(address)}", client_rate)


class _Held:
    """The bytes that one request has in memory."""

    __slots__ = ("_door", "size")

    def __init__(self, door: Door) -> None:
        self._door = door
        self.size = 0

    def add(self, size: int) -> None:
        self._door.hold(size)
        self.size += size


def _key_of(scope: Scope, headers: dict[bytes, str]) -> str | None:
    kind, _, key = headers.get(b"authorization", "").partition(" ")
    if kind.lower() == "bearer":
        return key.strip()
    if not scope["query_string"]:
        return None
    try:
        given = parse_qs(scope["query_string"].decode("latin-1"), max_num_fields=QUERY_FIELDS)
    except ValueError as error:
        raise Refusal(400, "query", f"the query cannot be read: {error}") from None
    return given.get("key", [None])[0]


def _who(events: list[Any], told: str) -> str:
    """Whose clock it is: the first event's user on this browser."""
    first = events[0] if events and isinstance(events[0], dict) else {}
    user = first.get("anonymous_id") or first.get("user_id")
    return f"{user if isinstance(user, str) else '':.100} {told:.200}"


def _time(sent_at: Any) -> int:
    try:
        return int(to_millis(sent_at))
    except (ValueError, TypeError, OverflowError):
        raise Refusal(400, "sent_at", "sent_at is ISO 8601 or milliseconds since 1970") from None


def _wait_if(wait: float) -> None:
    if wait:
        raise Refusal(429, "rate", "too many events: slow down", retry_after=wait)


def _results(
    key: WriteKey, answers: list[Answer], outcomes: list[Outcome]
) -> tuple[int, bytes, Headers]:
    results: list[dict[str, Any]] = []
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
            results.append({"id": answer.id, "status": status})
            continue
        if status == "drop":
            telemetry.DROPPED.labels(reason.partition(":")[0]).inc()
        results.append({"id": answer.id, "status": status, "reason": reason})
    for status, count in statuses.items():
        telemetry.EVENTS.labels(key.name, status).inc(count)
    content = orjson.dumps({"results": results})
    if results and statuses["retry"] == len(results):
        return 503, content, [_retry_after(AWAY_S)]
    return 200, content, []


def _refused(refusal: Refusal) -> tuple[int, bytes, Headers]:
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


def _cors(origin: str) -> Headers:
    return [
        (b"access-control-allow-origin", origin.encode("latin-1")),
        (b"access-control-expose-headers", b"retry-after"),
        (b"vary", b"origin"),
    ]


async def _send(send: Send, status: int, content: bytes, headers: Headers) -> None:
    if content:
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(content)).encode()),
            *headers,
        ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
