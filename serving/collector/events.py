"""`POST /v1/events` and `POST /v1/batch`: one request from its headers to its answer.

Upstream: the ASGI server. Downstream: `body.py`, `intake.py`, `delivery.py`. This is ASGI itself,
without a framework's request object, as it runs for every event.

Invariants: 200 is said only when every event answered `ok` is durable and every one answered `drop`
is a dead letter, or turned away at the door; whatever is refused as a whole left nothing behind.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import parse_qs

from streamgauge.schemas.envelope import to_millis
from streamgauge.schemas.ids import now_ms
from streamgauge.serving.collector import addresses, answers, body, telemetry
from streamgauge.serving.collector.agents import agent
from streamgauge.serving.collector.answers import Headers, Receive, Scope, Send
from streamgauge.serving.collector.door import Door, Held, busy
from streamgauge.serving.collector.errors import Refusal
from streamgauge.serving.collector.intake import Sender
from streamgauge.serving.collector.keys import WriteKey

QUERY_FIELDS = 20


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
        cors = answers.cors(origin) if origin is not None and door.keys.from_origin(origin) else []
        if method == "OPTIONS":
            status = 204 if cors else 403
            await answers.send(send, status, b"", [*answers.PREFLIGHT, *cors])
        else:
            held = Held(door)
            try:
                if method != "POST":
                    raise Refusal(405, "method", "send events by POST")
                answer = await self._answer(scope, receive, headers, origin, held)
            except Refusal as refusal:
                answer = answers.refused(refusal)
            finally:
                door.inflight -= held.size
            status, content, more = answer
            await answers.send(send, status, content, [*more, *cors])
            telemetry.SECONDS.observe(time.perf_counter() - began)
        telemetry.REQUESTS.labels(self._route, status).inc()

    async def _answer(
        self,
        scope: Scope,
        receive: Receive,
        headers: dict[bytes, str],
        origin: str | None,
        held: Held,
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
        taken = door.intake.take(events, sender)
        for name, rate in limited:
            door.buckets.charge(name, rate, len(events), now)
        stored = iter(await door.delivery.store([one.record for one in taken if one.record]))
        outcomes = [next(stored) if one.record else "stored" for one in taken]
        return answers.results(key, taken, outcomes)

    async def _body(self, receive: Receive, headers: dict[bytes, str], held: Held) -> bytes:
        most = self._door.limits.body_bytes
        declared = int(headers.get(b"content-length", "0"))
        if declared > most:
            raise Refusal(413, "too_large", f"{declared} bytes, at most {most} are taken")
        if self._door.inflight + declared > self._door.limits.inflight_bytes:
            raise busy()
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
